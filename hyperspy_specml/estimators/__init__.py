"""Fitted objects on arrays: what the methods of HyperSpy's signals use."""

from hyperspy_specml.estimators._decompose import (
    ARCHITECTURES,
    Candidate,
    Decomposition,
    EncodeRows,
    decompose,
    encode_all,
)
from hyperspy_specml.estimators._dense import DenseFit, fit_dense
from hyperspy_specml.estimators._models import DenseModel, LinearModel, SpectrumModel
from hyperspy_specml.estimators._stored import model_from_arrays, model_to_arrays
from hyperspy_specml.estimators._study import Study, study_spectra

__all__ = [
    "ARCHITECTURES", "Candidate", "Decomposition", "DenseFit", "DenseModel", "EncodeRows", "LinearModel",
    "SpectrumModel", "Study", "decompose", "encode_all", "fit_dense", "model_from_arrays",
    "model_to_arrays", "study_spectra",
]  # fmt: skip
