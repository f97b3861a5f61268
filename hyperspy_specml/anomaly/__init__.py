"""Anomaly maps on arrays: reference model, scan, null distribution, regions with their elements."""

from hyperspy_specml.anomaly._elements import line_evidence, peak_channel
from hyperspy_specml.anomaly._fdr import label_regions, peaks, significant
from hyperspy_specml.anomaly._learn import learn_normal
from hyperspy_specml.anomaly._line_shift import estimate_line_shift
from hyperspy_specml.anomaly._null import draw, equivalent_z, fit_null
from hyperspy_specml.anomaly._reference import Normal
from hyperspy_specml.anomaly._region_sums import RegionSums, sum_regions
from hyperspy_specml.anomaly._robust import carried_alone, robust_distance
from hyperspy_specml.anomaly._run import STATISTICS, Anomalies, find_anomalies
from hyperspy_specml.anomaly._scan import Scan, ScanModel, signed_squares, spatial_sums
from hyperspy_specml.anomaly._shift_scan import ShiftScan
from hyperspy_specml.anomaly._spikes import RimFinder, SpikeFinder
from hyperspy_specml.anomaly._windows import energy_windows, estimate_line_width
