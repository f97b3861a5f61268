"""Denoising on arrays: candidates, chosen by held-out counts, and the signal that they removed."""

from hyperspy_specml.denoise._candidates import KINDS, CandidateData, Entry, Kind
from hyperspy_specml.denoise._library import LibraryFit, fit_library
from hyperspy_specml.denoise._options import CONTEXTS, Asked, DenoiseOptions, LibraryOptions
from hyperspy_specml.denoise._removed import (
    Denoised,
    RemovedRegion,
    find_removed,
    keep_counts,
    keep_mean,
    overlapping_windows,
)
from hyperspy_specml.denoise._run import Denoising, apply_denoiser, denoise
from hyperspy_specml.denoise._sums import basis_of_sums
from hyperspy_specml.denoise._totals import average_totals, choose_width
