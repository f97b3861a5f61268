"""Fitted models: arithmetic from spectra to scores and back, their reports and their files. No fitting here."""

from hyperspy_specml.models._anomaly_report import AnomalyReport
from hyperspy_specml.models._apply import encode_map
from hyperspy_specml.models._base import ANY, FittedModel, LinearModel, Parts, basis_arrays, parts_of, prefixed
from hyperspy_specml.models._decomposition_report import DecompositionReport
from hyperspy_specml.models._denoise_report import DenoiseReport, RemovedFeature
from hyperspy_specml.models._denoisers import FilteredScores, FittedDenoiser, UnfilteredScores, noise_along
from hyperspy_specml.models._energy_axis import channels_in, check_axis_spec, in_words, same_channels
from hyperspy_specml.models._filters import Filter, filters
from hyperspy_specml.models._latent import LatentModel
from hyperspy_specml.models._networks import AUTOENCODERS, autoencoder_network, loaded, network_arrays, tensor_for
from hyperspy_specml.models._report import CLEAR, Attempt, Candidate, Report
from hyperspy_specml.models._simplex import SimplexModel
from hyperspy_specml.models._spectral_denoisers import LibraryDenoiser, SpectralDenoiser
from hyperspy_specml.models._table import Row, as_html, as_text, short
from hyperspy_specml.models._tiles import Tiles, plan_sample, tiles_of
from hyperspy_specml.models._trained import Fingerprint, TrainedModel
