"""Decompositions on arrays: architectures in a registry, selection by held-out counts."""

from hyperspy_specml.decompose._architecture import PCA, Architecture, Fit, PCAOptions
from hyperspy_specml.decompose._autoencoder import Autoencoder, ConvOptions, DenseOptions
from hyperspy_specml.decompose._endmembers import SimplexOptions
from hyperspy_specml.decompose._generate import Density, Generator, fit_density, told_apart
from hyperspy_specml.decompose._interval import Certainty, Quantity, Replica, inflation, make_replica
from hyperspy_specml.decompose._normalised import NormalisedScores
from hyperspy_specml.decompose._registry import architecture_names, choose_architecture, register_architecture
from hyperspy_specml.decompose._run import Decomposition, choose_number, decompose
from hyperspy_specml.decompose._simplex import Simplex
from hyperspy_specml.decompose._vae import EvidenceBound, Variational, VariationalOptions
from hyperspy_specml.models import AUTOENCODERS

for _built_in in (
    Autoencoder("dense", AUTOENCODERS["dense"]),
    Autoencoder("conv", AUTOENCODERS["conv"], ConvOptions()),
    Variational(),
    Simplex(),
    PCA(),
):
    register_architecture(_built_in)
