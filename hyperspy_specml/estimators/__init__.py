"""Fitted objects on arrays: what the methods of HyperSpy's signals use."""

from hyperspy_specml.estimators._apply import apply_models
from hyperspy_specml.estimators._array_estimators import DenseAutoencoder, NoiseWeightedPCA
from hyperspy_specml.estimators._decompose import (
    ARCHITECTURES,
    Candidate,
    Decomposition,
    EncodeRows,
    decompose,
    encode_all,
)
from hyperspy_specml.estimators._denoise import CONTEXTS, Denoising, Quality, denoise
from hyperspy_specml.estimators._denoisers import Denoiser
from hyperspy_specml.estimators._dense import DenseFit, fit_dense
from hyperspy_specml.estimators._models import DenseModel, LinearModel, SpectrumModel
from hyperspy_specml.estimators._protect import Protected, erased_by, put_back
from hyperspy_specml.estimators._stored import model_from_arrays, model_to_arrays
from hyperspy_specml.estimators._study import Study, study_spectra

__all__ = [
    "ARCHITECTURES", "CONTEXTS", "Candidate", "Decomposition", "Denoiser", "Denoising",
    "DenseAutoencoder", "DenseFit", "DenseModel", "EncodeRows", "LinearModel",
    "NoiseWeightedPCA", "Protected", "Quality", "SpectrumModel", "Study", "apply_models",
    "decompose", "denoise",
    "encode_all", "erased_by", "fit_dense", "model_from_arrays", "model_to_arrays", "put_back",
    "study_spectra",
]  # fmt: skip
