"""What methods return: frozen objects of native signals, the evidence for them and the trained model."""

from hyperspy_specml.results._anomaly import AnomalyResult, Candidate, Region, Spike
from hyperspy_specml.results._decomposition import DecompositionResult
from hyperspy_specml.results._report import Report
from hyperspy_specml.results._trained import TrainedModel

__all__ = [
    "AnomalyResult", "Candidate", "DecompositionResult", "Region", "Report", "Spike", "TrainedModel",
]  # fmt: skip
