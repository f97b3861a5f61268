"""Pretraining on pooled spectra, on arrays: grids, encoder, objectives, simulators, predictors."""

from hyperspy_specml.pretraining._contest import Blend, Contest, blend_shares, contest, errors_of
from hyperspy_specml.pretraining._encoder import NORMALISATIONS, Inputs, PatchShape, Readout, Scale, SpectrumEncoder
from hyperspy_specml.pretraining._errors import Errors, are_counts, with_fewer_counts
from hyperspy_specml.pretraining._features import Features
from hyperspy_specml.pretraining._grid import SpectralGrid
from hyperspy_specml.pretraining._heads import Head, fit_head
from hyperspy_specml.pretraining._instruments import Instruments
from hyperspy_specml.pretraining._likelihood import Mixtures
from hyperspy_specml.pretraining._novelty import LatentDensity
from hyperspy_specml.pretraining._options import LoraOptions, Masking
from hyperspy_specml.pretraining._predict import METHODS, Task, Tuned, Unlabelled, adapted, tune
from hyperspy_specml.pretraining._simulate import EdgePhysics, LibraryPhysics, XrayPhysics
from hyperspy_specml.pretraining._train import OBJECTIVES, Physics, Source, train_encoder
