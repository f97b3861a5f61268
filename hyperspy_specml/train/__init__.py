"""Trainer, batches, losses and devices: what every network is trained with."""

from hyperspy_specml.train._device import choose_device, one_thread
from hyperspy_specml.train._library_pairs import LibraryPairs
from hyperspy_specml.train._mixtures import SplitMixtures
from hyperspy_specml.train._pairs import DrawnPairs, Pairs, SplitPairs
from hyperspy_specml.train._tile_pairs import TilePair, TilePairs
from hyperspy_specml.train._trainer import History, fit, refit
