"""Between HyperSpy signals and arrays: checks and masks on the way in, native signals on the way out."""

from hyperspy_specml.signals._axes import (
    axis_spec,
    channels_in,
    check_axis_spec,
    energy_axis,
    in_words,
    same_channels,
)
from hyperspy_specml.signals._build import component_spectra, like, navigation_map, score_maps, stamp
from hyperspy_specml.signals._lines import Line, line_width, spectral_lines
from hyperspy_specml.signals._spectra import Spectra, spectra_of

__all__ = [
    "Line",
    "Spectra",
    "axis_spec",
    "channels_in",
    "check_axis_spec",
    "component_spectra",
    "energy_axis",
    "in_words",
    "like",
    "line_width",
    "navigation_map",
    "same_channels",
    "score_maps",
    "spectra_of",
    "spectral_lines",
    "stamp",
]
