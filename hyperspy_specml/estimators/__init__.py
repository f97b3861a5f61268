"""Fitted objects on arrays: what the methods of HyperSpy's signals use."""

from hyperspy_specml.estimators._anomaly import STATISTICS, Anomalies, find_anomalies
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
from hyperspy_specml.estimators._normal import Normal, learn_normal
from hyperspy_specml.estimators._regions import RegionSums, sum_regions
from hyperspy_specml.estimators._study import Study, study_spectra

__all__ = [
    "ARCHITECTURES", "STATISTICS", "Anomalies", "Candidate", "Decomposition", "DenseFit", "DenseModel",
    "EncodeRows", "LinearModel", "Normal", "RegionSums", "SpectrumModel", "Study", "decompose", "encode_all",
    "find_anomalies", "fit_dense", "learn_normal", "study_spectra", "sum_regions",
]  # fmt: skip
