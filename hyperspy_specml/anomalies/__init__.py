"""Anomaly maps on arrays: learn what is normal, scan, calibrate by maps drawn from it."""

from hyperspy_specml.anomalies._find import STATISTICS, Anomalies, find_anomalies
from hyperspy_specml.anomalies._learn import learn_normal
from hyperspy_specml.anomalies._normal import Normal
from hyperspy_specml.anomalies._regions import RegionSums, sum_regions

__all__ = [
    "STATISTICS",
    "Anomalies",
    "Normal",
    "RegionSums",
    "find_anomalies",
    "learn_normal",
    "sum_regions",
]
