"""Between HyperSpy signals and arrays: checks and masks on the way in, native signals on the way out."""

from hyperspy_specml.signals._axes import axis_spec, energy_axis
from hyperspy_specml.signals._build import component_spectra, like, navigation_map, score_maps, stamp
from hyperspy_specml.signals._lines import Line, line_width, spectral_lines
from hyperspy_specml.signals._source import Decoder, Source
from hyperspy_specml.signals._spectra import spectra_of
