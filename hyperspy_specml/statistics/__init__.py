"""Noise models, splitting, moments, bases, held-out scores and rank: NumPy, SciPy and dask only."""

from hyperspy_specml.statistics._basis import (
    PrincipalBasis,
    canonical_signs,
    channel_weights,
    leading_vectors,
    principal_basis,
    project_on,
    refine_basis,
)
from hyperspy_specml.statistics._curves import falls
from hyperspy_specml.statistics._estimate import NOISE_NAMES, NoiseEstimate, estimate_noise
from hyperspy_specml.statistics._folds import (
    FRACTIONS,
    N_PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Folds,
    PairedScore,
    RankCurve,
    bi_cross_validation,
    choose_rank,
    fold_correlation,
    holds_out,
    make_folds,
    n_compressed,
    noise_edge,
    paired,
    rank_curve,
)
from hyperspy_specml.statistics._line_width import line_width, typical_mean
from hyperspy_specml.statistics._moments import Moments, moments_of, wide_moments
from hyperspy_specml.statistics._noise import (
    MOST_COUNTS,
    PREDICTION_FLOOR,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    correlation_kernel,
    draw_noise,
    gain_of,
    noise_from_dict,
    plausible_mean,
    unit_of,
)
from hyperspy_specml.statistics._resample import Resampling, plan_resampling
from hyperspy_specml.statistics._spikes import (
    NARROWEST_LINE,
    SPIKE_CHANCE,
    channels_beside,
    find_hot_values,
    largest_line_ratio,
    line_in_channels,
    spike_line_width,
    squares_of_sums,
    sums_between,
    without_hot_values,
)
from hyperspy_specml.statistics._states import BELOW_LINES, EMPTY, MASKED, NOT_FINITE, SATURATED, STATE_NAMES, USED
from hyperspy_specml.statistics._summary import MapSummary, count_states, expand_channels, sample_size, summarise_map
from hyperspy_specml.statistics._two_sample import two_sample_score
from hyperspy_specml.statistics._windows import Windows, energy_windows, signed_squares, spatial_sums
