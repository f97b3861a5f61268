"""Pretraining on pooled spectra, on arrays: grids, encoder, objectives, simulators, predictors."""

from hyperspy_specml.pretraining._encoder import NORMALISATIONS, Inputs, PatchShape, Scale, SpectrumEncoder
from hyperspy_specml.pretraining._grid import SpectralGrid
from hyperspy_specml.pretraining._instruments import Instruments
from hyperspy_specml.pretraining._novelty import LatentDensity
from hyperspy_specml.pretraining._predict import METHODS, Contest, Features, Head, Task, Tuned, contest, fit_head, tune
from hyperspy_specml.pretraining._simulate import EdgePhysics, LibraryPhysics, XrayPhysics
from hyperspy_specml.pretraining._train import OBJECTIVES, Physics, Source, train_encoder
