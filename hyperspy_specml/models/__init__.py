"""Fitted models: arithmetic from spectra to scores and back, their reports and their files. No fitting here."""

from hyperspy_specml.models._base import FittedModel, LinearModel, Parts, encode_map, encode_new_map, parts_of, prefixed
from hyperspy_specml.models._denoisers import (
    FilteredScores,
    FittedDenoiser,
    LibraryDenoiser,
    SpectralDenoiser,
    UnfilteredScores,
    noise_along,
)
from hyperspy_specml.models._factors import FactorModel
from hyperspy_specml.models._file import Stored, is_kept, pack, read_model_file, unpack, write_model_file
from hyperspy_specml.models._filters import MOST_SCAN_AXES, Tiles, filters, plan_sample, tiles_of
from hyperspy_specml.models._moving import MovingModel
from hyperspy_specml.models._networks import AUTOENCODERS, LatentModel, SimplexModel, autoencoder_network, tensor_for
from hyperspy_specml.models._phase_report import PhaseReport
from hyperspy_specml.models._report import (
    CLEAR,
    Attempt,
    Candidate,
    Report,
    as_html,
    as_text,
    data_frame,
    new_figure,
    short,
)
from hyperspy_specml.models._reports import AnomalyReport, DecompositionReport, DenoiseReport, RemovedFeature
from hyperspy_specml.models._shift_report import ShiftReport
from hyperspy_specml.models._trained import Fingerprint, TrainedModel, in_words, same_channels
from hyperspy_specml.models._vae import VariationalModel, variational_network
