"""Anomaly maps on arrays: reference model, scan, null distribution, regions with their elements."""

from hyperspy_specml.anomaly._elements import Candidate, EnergyAxis
from hyperspy_specml.anomaly._reference import ReferenceModel
from hyperspy_specml.anomaly._regions import FoundRegion
from hyperspy_specml.anomaly._run import Anomalies, Search, find_anomalies, relabel
from hyperspy_specml.anomaly._setup import align_to_spectra, common_channels, scan_line_drift
