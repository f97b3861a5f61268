"""What methods return: frozen objects of native signals, the evidence for them and the trained model."""

from hyperspy_specml.results._anomaly import AnomalyResult, Candidate, Region, Spike
from hyperspy_specml.results._decomposition import DecompositionResult
from hyperspy_specml.results._denoise_report import DenoiseReport, denoise_report
from hyperspy_specml.results._denoiser import TrainedDenoiser, denoise_model, keep_denoiser
from hyperspy_specml.results._report import Report
from hyperspy_specml.results._resampled import on_axis
from hyperspy_specml.results._stored import load_model
from hyperspy_specml.results._trained import Fingerprint, TrainedModel

__all__ = [
    "AnomalyResult", "Candidate", "DecompositionResult", "DenoiseReport", "Fingerprint", "Region", "Report",
    "Spike", "TrainedDenoiser", "TrainedModel", "denoise_model", "denoise_report",
    "keep_denoiser", "load_model", "on_axis",
]  # fmt: skip
