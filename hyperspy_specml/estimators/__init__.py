"""Fitted objects on arrays: what the methods of HyperSpy's signals use."""

from hyperspy_specml.estimators._apply import apply_models
from hyperspy_specml.estimators._array_estimators import DenseAutoencoder, NoiseWeightedPCA
from hyperspy_specml.estimators._decompose import ARCHITECTURES, Candidate, Decomposition, decompose
from hyperspy_specml.estimators._dense import DenseFit, fit_dense
from hyperspy_specml.estimators._encode import EncodeRows, encode_all
from hyperspy_specml.estimators._models import DenseModel, LinearModel, SpectrumModel, n_columns
from hyperspy_specml.estimators._restarts import Attempt
from hyperspy_specml.estimators._simplex import SimplexFit, fit_simplex
from hyperspy_specml.estimators._simplex_model import SimplexModel
from hyperspy_specml.estimators._smooth import smooth_study
from hyperspy_specml.estimators._stored import model_from_arrays, model_to_arrays
from hyperspy_specml.estimators._study import Study, study_spectra

__all__ = [
    "ARCHITECTURES", "Attempt", "Candidate", "Decomposition", "DenseAutoencoder", "DenseFit",
    "DenseModel", "EncodeRows", "LinearModel", "NoiseWeightedPCA", "SimplexFit", "SimplexModel",
    "SpectrumModel", "Study", "apply_models", "decompose", "encode_all", "fit_dense", "fit_simplex",
    "model_from_arrays", "model_to_arrays", "n_columns", "smooth_study", "study_spectra",
]  # fmt: skip
