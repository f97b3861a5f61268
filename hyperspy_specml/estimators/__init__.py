"""Fitted objects on arrays: what the methods of HyperSpy's signals use."""

from hyperspy_specml.estimators._anomaly import STATISTICS, Anomalies, find_anomalies
from hyperspy_specml.estimators._apply import apply_models
from hyperspy_specml.estimators._array_estimators import DenseAutoencoder, NoiseWeightedPCA
from hyperspy_specml.estimators._decompose import (
    ARCHITECTURES,
    Candidate,
    Decomposition,
    decompose,
)
from hyperspy_specml.estimators._denoise import CONTEXTS, Denoising, Quality, denoise
from hyperspy_specml.estimators._denoise_apply import Applied, apply_denoiser
from hyperspy_specml.estimators._denoisers import Denoiser
from hyperspy_specml.estimators._dense import DenseFit, fit_dense
from hyperspy_specml.estimators._encode import EncodeRows, encode_all
from hyperspy_specml.estimators._learn_normal import learn_normal
from hyperspy_specml.estimators._library import LibraryFit, fit_library
from hyperspy_specml.estimators._models import DenseModel, LinearModel, SpectrumModel, n_columns
from hyperspy_specml.estimators._normal import Normal
from hyperspy_specml.estimators._protect import Protected, erased_by, put_back
from hyperspy_specml.estimators._regions import RegionSums, sum_regions
from hyperspy_specml.estimators._restarts import Attempt
from hyperspy_specml.estimators._simplex import SimplexFit, fit_simplex
from hyperspy_specml.estimators._simplex_model import SimplexModel
from hyperspy_specml.estimators._smooth import smooth_study
from hyperspy_specml.estimators._stored import model_from_arrays, model_to_arrays
from hyperspy_specml.estimators._stored_denoisers import (
    denoiser_from_arrays,
    denoiser_to_arrays,
    filter_names,
)
from hyperspy_specml.estimators._study import Study, study_spectra

__all__ = [
    "ARCHITECTURES", "CONTEXTS", "STATISTICS", "Anomalies", "Applied", "Attempt", "Candidate",
    "Decomposition", "Denoiser", "Denoising", "DenseAutoencoder", "DenseFit", "DenseModel",
    "EncodeRows", "LibraryFit", "LinearModel", "NoiseWeightedPCA", "Normal",
    "Protected", "Quality", "RegionSums", "SimplexFit", "SimplexModel", "SpectrumModel", "Study",
    "apply_denoiser", "apply_models", "decompose", "denoise", "denoiser_from_arrays",
    "denoiser_to_arrays", "encode_all", "erased_by", "filter_names", "find_anomalies", "fit_dense",
    "fit_library", "fit_simplex", "learn_normal", "model_from_arrays", "model_to_arrays", "n_columns",
    "put_back", "smooth_study", "study_spectra", "sum_regions",
]  # fmt: skip
