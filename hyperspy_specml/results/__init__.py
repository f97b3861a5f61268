"""What methods return: frozen objects of native signals, the evidence for them and the trained model."""

from hyperspy_specml.results._anomaly import AnomalyResult, Region, Spike
from hyperspy_specml.results._decomposition import DecompositionResult
from hyperspy_specml.results._denoised import denoise_model, denoise_report
from hyperspy_specml.results._figures import (
    amount,
    axis_label,
    draw_anomalies,
    draw_map,
    draw_overlay,
    draw_phase_map,
    draw_phase_spectra,
    draw_spectra,
    legend_outside,
    mark_line,
    phase_colour,
)
from hyperspy_specml.results._interval import Interval
from hyperspy_specml.results._live import draw_live
from hyperspy_specml.results._load import load_result
from hyperspy_specml.results._phases import PhaseResult, PhaseShare, PhaseShares
from hyperspy_specml.results._shifts import ShiftResult
from hyperspy_specml.results._view import LatentView
