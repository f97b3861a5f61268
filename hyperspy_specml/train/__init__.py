"""Trainer, batches, losses and devices: what every network is trained with."""

from hyperspy_specml.train._batches import (
    Batch,
    BatchSource,
    DrawnCounts,
    DrawnInputs,
    RandomRows,
    ScoresAndCounts,
    SplitParts,
    TileCrops,
    TilePair,
)
from hyperspy_specml.train._device import choose_device, one_thread
from hyperspy_specml.train._losses import Loss, LossParts, MixtureLikelihood, squared_error, squared_error_of_maps
from hyperspy_specml.train._trainer import History, Trainer, fit, refit
