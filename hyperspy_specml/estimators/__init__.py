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
from hyperspy_specml.estimators._models import DenseModel, LinearModel, SpectrumModel, n_columns
from hyperspy_specml.estimators._restarts import Attempt
from hyperspy_specml.estimators._simplex import SimplexFit, fit_simplex
from hyperspy_specml.estimators._simplex_model import SimplexModel
from hyperspy_specml.estimators._study import Study, study_spectra

__all__ = [
    "ARCHITECTURES", "Attempt", "Candidate", "Decomposition", "DenseFit", "DenseModel", "EncodeRows",
    "LinearModel", "SimplexFit", "SimplexModel", "SpectrumModel", "Study", "decompose", "encode_all",
    "fit_dense", "fit_simplex", "n_columns", "study_spectra",
]  # fmt: skip
