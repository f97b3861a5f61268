"""Denoising on arrays: candidates, chosen by held-out counts, and the signal that they removed."""

from hyperspy_specml.denoise._apply import apply_denoiser
from hyperspy_specml.denoise._library import LibraryDenoiser, LibraryFit, fit_library
from hyperspy_specml.denoise._removed import Erased, channel_windows, find_erased
from hyperspy_specml.denoise._restore import Protected, erased_by, put_back
from hyperspy_specml.denoise._run import Denoising, denoise
