"""Noise models, splitting, moments, whitening, held-out scores and rank: NumPy, SciPy and dask only."""

from hyperspy_specml.statistics._axes import (
    PrincipalAxes,
    canonical_signs,
    channel_weights,
    principal_axes,
    project_along,
)
from hyperspy_specml.statistics._estimate import NOISE_NAMES, NoiseEstimate, estimate_noise
from hyperspy_specml.statistics._heldout import (
    CHOOSE,
    FRACTIONS,
    N_PARTS,
    REPORT,
    TRAIN,
    Folds,
    PairedScore,
    fold_correlation,
    holds_out,
    make_folds,
    paired,
)
from hyperspy_specml.statistics._moments import Moments, moments_of, wide_moments
from hyperspy_specml.statistics._noise import (
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    gaussian_noise,
    noise_from_dict,
)
from hyperspy_specml.statistics._random import choose_pixels, normal, uniform
from hyperspy_specml.statistics._rank import (
    RankCurve,
    bi_cross_validation,
    choose_rank,
    n_compressed,
    noise_edge,
    rank_curve,
)
from hyperspy_specml.statistics._refine import refine_axes
from hyperspy_specml.statistics._resample import Resampling, plan_resampling
from hyperspy_specml.statistics._survey import (
    EMPTY,
    MASKED,
    NOT_FINITE,
    SATURATED,
    STATE_NAMES,
    USED,
    Survey,
    count_states,
    expand_channels,
    sample_size,
    survey_spectra,
)
from hyperspy_specml.statistics._thinning import correlation_kernel, split_gaussian, thin_counts

__all__ = [
    "CHOOSE", "EMPTY", "FRACTIONS", "MASKED", "NOISE_NAMES", "NOT_FINITE", "N_PARTS", "REPORT", "SATURATED",
    "STATE_NAMES", "TRAIN", "USED", "Folds", "Moments", "NoiseEstimate", "NoiseModel", "PairedScore",
    "PoissonGaussianNoise", "PoissonNoise", "PrincipalAxes", "RankCurve", "Resampling", "Survey",
    "bi_cross_validation", "canonical_signs", "channel_weights", "choose_pixels", "choose_rank",
    "correlation_kernel", "count_states", "estimate_noise", "expand_channels", "fold_correlation",
    "gaussian_noise",
    "holds_out", "make_folds", "moments_of", "n_compressed", "noise_edge", "noise_from_dict", "normal",
    "paired", "plan_resampling", "principal_axes", "project_along", "rank_curve", "refine_axes",
    "sample_size", "split_gaussian", "survey_spectra", "thin_counts", "uniform", "wide_moments",
]  # fmt: skip
