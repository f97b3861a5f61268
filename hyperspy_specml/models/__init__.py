"""Fitted models: arithmetic from spectra to scores and back, their reports and their files. No fitting here."""

from hyperspy_specml.models._apply import apply_models
from hyperspy_specml.models._denoise_report import ERASED, DenoiseReport, denoise_report
from hyperspy_specml.models._denoiser import TrainedDenoiser, denoise_model, keep_denoiser
from hyperspy_specml.models._denoisers import (
    DenoisedSpectra,
    Denoiser,
    FilteredScores,
    LibraryDenoiser,
    Unchanged,
    denoise_map,
    noise_along,
)
from hyperspy_specml.models._encode import encode_all
from hyperspy_specml.models._energy_axis import channels_in, check_axis_spec, in_words, same_channels
from hyperspy_specml.models._filters import Filter, filters
from hyperspy_specml.models._latent import DenseModel, LinearModel, SpectrumModel
from hyperspy_specml.models._report import Attempt, Candidate, Report
from hyperspy_specml.models._resampled import on_axis
from hyperspy_specml.models._simplex import SimplexModel
from hyperspy_specml.models._stored import load_model
from hyperspy_specml.models._tiles import Tiles, plan_sample, tiles_of
from hyperspy_specml.models._trained import Fingerprint, TrainedModel
