"""Noise models, splitting, moments, bases, held-out scores and rank: NumPy, SciPy and dask only."""

from hyperspy_specml.statistics._basis import (
    PrincipalBasis,
    canonical_signs,
    channel_weights,
    principal_basis,
    project_on,
)
from hyperspy_specml.statistics._estimate import NOISE_NAMES, NoiseEstimate, estimate_noise
from hyperspy_specml.statistics._folds import (
    FRACTIONS,
    N_PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Folds,
    PairedScore,
    fold_correlation,
    holds_out,
    make_folds,
    paired,
)
from hyperspy_specml.statistics._line_width import line_width, typical_mean
from hyperspy_specml.statistics._moments import Moments, moments_of, wide_moments
from hyperspy_specml.statistics._noise import (
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    gaussian_noise,
    noise_from_dict,
)
from hyperspy_specml.statistics._rank import (
    RankCurve,
    bi_cross_validation,
    choose_rank,
    n_compressed,
    noise_edge,
    rank_curve,
)
from hyperspy_specml.statistics._refine import refine_basis
from hyperspy_specml.statistics._resample import Resampling, plan_resampling
from hyperspy_specml.statistics._summary import (
    EMPTY,
    MASKED,
    NOT_FINITE,
    SATURATED,
    STATE_NAMES,
    USED,
    MapSummary,
    count_states,
    expand_channels,
    sample_size,
    summarise_map,
)
from hyperspy_specml.statistics._thinning import correlation_kernel, split_gaussian, thin_counts, uniform
from hyperspy_specml.statistics._windows import (
    MOST_COUNTS,
    Windows,
    energy_windows,
    gain_of,
    signed_squares,
    spatial_sums,
    unit_of,
)
