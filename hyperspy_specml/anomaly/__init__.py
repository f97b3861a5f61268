"""Anomaly maps on arrays: reference model, scan, null distribution, regions with their elements."""

from hyperspy_specml.anomaly._elements import Candidate, EnergyAxis, SpectralLine
from hyperspy_specml.anomaly._learn import Learnt
from hyperspy_specml.anomaly._network import NetworkTrial
from hyperspy_specml.anomaly._preparation import STATISTICS, Search
from hyperspy_specml.anomaly._reference import ReferenceModel
from hyperspy_specml.anomaly._regions import FoundRegion, PixelScores
from hyperspy_specml.anomaly._run import Anomalies, find_anomalies
