"""What a residual tells: anomaly scan, its calibration, what was erased. Arrays, NumPy and SciPy only."""

from hyperspy_specml.analysis._drift import drift_of_lines
from hyperspy_specml.analysis._erased import (
    Erased,
    ErasedRegion,
    WindowSums,
    channel_windows,
    find_erased,
)
from hyperspy_specml.analysis._explain import line_evidence, peak_channel
from hyperspy_specml.analysis._null import NullFit, draw, equivalent_z, fit_null
from hyperspy_specml.analysis._regions import label_regions, peaks, significant
from hyperspy_specml.analysis._robust import carried_alone, robust_distance
from hyperspy_specml.analysis._scan import Scan, ScanModel, Strongest, signed_squares, spatial_sums
from hyperspy_specml.analysis._shift import ShiftScan
from hyperspy_specml.analysis._spikes import RimFinder, SpikeFinder
from hyperspy_specml.analysis._windows import Windows, energy_windows, estimate_line_width

__all__ = [
    "Erased", "ErasedRegion", "NullFit", "RimFinder", "Scan", "ScanModel", "ShiftScan", "SpikeFinder",
    "Strongest", "WindowSums", "Windows", "carried_alone", "channel_windows", "draw", "drift_of_lines",
    "energy_windows", "equivalent_z", "estimate_line_width", "find_erased", "fit_null", "label_regions",
    "line_evidence", "peak_channel", "peaks", "robust_distance", "signed_squares", "significant",
    "spatial_sums",
]  # fmt: skip
