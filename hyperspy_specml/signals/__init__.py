"""Between HyperSpy signals and arrays: checks and masks on the way in, native signals on the way out."""

from hyperspy_specml.signals._lines import Line, below_first_line, line_width, spectral_lines
from hyperspy_specml.signals._moved import move_spectra
from hyperspy_specml.signals._source import (
    Decoder,
    Source,
    component_spectra,
    mark_empty,
    marked_empty,
    navigation_map,
    new_scan,
    provenance,
    score_maps,
    stamp,
)
from hyperspy_specml.signals._spectra import axis_spec, check_spectra, energy_axis, in_array_order, spectra_of
