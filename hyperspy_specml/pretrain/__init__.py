"""Pretraining on pooled spectra, on arrays: a grid for every instrument, encoder, objectives, simulators, predictors."""

from hyperspy_specml.pretrain._encoder import NORMALISATIONS, Inputs, SpectrumEncoder
from hyperspy_specml.pretrain._grid import SpectralGrid
from hyperspy_specml.pretrain._predict import METHODS, Contest, Features, Head, Tuned, contest, tune
from hyperspy_specml.pretrain._simulate import LibraryPhysics, XrayPhysics
from hyperspy_specml.pretrain._train import OBJECTIVES, Physics, Source, train_encoder
