"""Decompositions on arrays: architectures in a registry, selection by held-out counts."""

from hyperspy_specml.decompose._array_estimators import DenseAutoencoder, NoiseWeightedPCA
from hyperspy_specml.decompose._autoencoder import Track, brief, fit_dense
from hyperspy_specml.decompose._network_data import DenseTraining, normalisation
from hyperspy_specml.decompose._networks import choose_latents
from hyperspy_specml.decompose._restarts import Attempt
from hyperspy_specml.decompose._run import Candidate, Clock, Decomposition, decompose
from hyperspy_specml.decompose._simplex import fit_simplex
