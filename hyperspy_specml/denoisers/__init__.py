"""Denoisers on arrays: fitted to a map or to a library, chosen by held-out counts, asked what they erase."""

from hyperspy_specml.denoisers._apply import Applied, apply_denoiser
from hyperspy_specml.denoisers._denoise import CONTEXTS, Denoising, Quality, denoise
from hyperspy_specml.denoisers._denoisers import Denoiser
from hyperspy_specml.denoisers._library import LibraryFit, fit_library
from hyperspy_specml.denoisers._protect import Protected, erased_by, put_back
from hyperspy_specml.denoisers._stored import denoiser_from_arrays, denoiser_to_arrays, filter_names

__all__ = [
    "CONTEXTS",
    "Applied",
    "Denoiser",
    "Denoising",
    "LibraryFit",
    "Protected",
    "Quality",
    "apply_denoiser",
    "denoise",
    "denoiser_from_arrays",
    "denoiser_to_arrays",
    "erased_by",
    "filter_names",
    "fit_library",
    "put_back",
]
