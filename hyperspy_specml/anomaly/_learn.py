"""Learn a reference model from a map, and measure its errors.

The scan sums over neighbouring pixels and sees deviations that no single pixel shows. So the reference model
is learnt from sums over patches of pixels: they separate its weak components from noise, and a rare phase
stands out. Patches that may contain something rare are left out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from hyperspy_specml.anomaly._components import choose_components, largest_contribution, robust_distance, try_network
from hyperspy_specml.anomaly._reference import ReferenceModel
from hyperspy_specml.anomaly._scan import Scan, ShiftScan
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.models import LinearModel
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.statistics import PoissonGaussianNoise, gain_of, moments_of, principal_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.anomaly._components import ComponentChoice, NetworkTrial
    from hyperspy_specml.anomaly._scan import ScanModel
    from hyperspy_specml.anomaly._setup import PatchSums
    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel, Windows

_logger = logging.getLogger(__name__)

# Fraction of the patches whose residuals are errors of the model: of a model learnt from the same map, and of
# a model learnt elsewhere, to which more of the map may be new.
_ORDINARY = 0.99
_ORDINARY_ELSEWHERE = 0.9
# Part of the time that PCA takes where an autoencoder is trained too.
_PCA_SHARE = 0.4
# Channels, standard deviations of the smoothing of components that are tried: noise of the components
# themselves would be found in all pixels.
_SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)
# Smoothing relative to the narrowest window, at most: with more, blurred lines would be found.
_SMOOTHEST = 1 / 16
# Rounds of leaving out patches and fitting anew.
_ROUNDS = 2
# Squared deviates above which a patch is left out, relative to the one that 5 % of the patches exceed:
# extremes of what is ordinary are below.
_RARE = 3.0
# The same for patches that come back: of their strongest window, and of their distance.
_DESCRIBED, _FARTHEST = 2.0, 12.0
# Patches along the side of a place that may be the only one with a phase.
_PLACE = 3
# Fraction of a direction of the spectra above which a place alone is behind a component, and how many times
# its part of the map this must be: noise reaches a few times.
_ALONE = 0.5
_TIMES_ITS_PART = 15
# Fraction of the patches whose shifts are ordinary: extreme quantiles are unreliable on small maps.
_ORDINARY_SHIFTS = 0.9
# Windows whose sums are held at a time.
_GROUP = 64


@dataclass(frozen=True)
class LearningTask:
    """What a reference model is learnt for, beside the patches.

    Attributes
    ----------
    noise
        Noise model of one pixel.
    windows, line_width
        Windows of energy, and (E,) the full width at half maximum of a line in channels.
    n_components
        Number of components; None chooses it by held-out score, anew after each round of leaving out patches.
    n_spare
        Components to add where they cost little.
    known
        (N, E) spectra that the model has to describe, however rare they are; None for none.
    shift_smoothing
        Standard deviation, in channels, of the Gaussian whose derivative shifted spectra are compared with;
        None does not search for shifts.
    autoencoder
        Trained on the same patches; None for PCA alone.
    only_if_better
        Whether the autoencoder is taken only where it is clearly better than PCA.
    """

    noise: NoiseModel
    windows: Windows
    line_width: np.ndarray
    n_components: int | None = None
    n_spare: int = 0
    known: np.ndarray | None = None
    shift_smoothing: float | None = None
    autoencoder: Autoencoder | None = None
    only_if_better: bool = False


@dataclass(frozen=True)
class Learnt:
    """A reference model and how it was learnt.

    Attributes
    ----------
    reference
        The model, with its errors if it is PCA. Those of an autoencoder are measured by `measure_errors`.
    n_left_out
        Patches left out because they may contain something rare.
    trial
        Autoencoder that was trained beside PCA; None for none.
    interrupted
        Whether the user ended the training of the autoencoder.
    """

    reference: ReferenceModel
    n_left_out: int = 0
    trial: NetworkTrial | None = None
    interrupted: bool = False


def learn_reference(patches: PatchSums, task: LearningTask, run: Run) -> Learnt:
    """Fit PCA to the patches of a map without those that may be rare, and train an autoencoder if asked to.

    Parameters
    ----------
    patches, task
        What is learnt from, and for.
    run
        Its seed is that of the split into folds; its stages are "Fit PCA" and "Train network".

    Raises
    ------
    TrainingDivergedError
        An autoencoder that is needed diverged.
    Cancelled
        The user asked for it, and not while a network was trained.
    """
    trimming = Trimming(patches, task, run)
    with run.progress.enter("Fit PCA", _PCA_SHARE if task.autoencoder else 1.0):
        reference, keep, choice = trimming.fit_without_rare()
    rows, n_pixels, n = patches.sums[keep], float(np.median(patches.counts[keep])), choice.n_components
    learnt = Learnt(reference, int((patches.used & ~keep).sum()))
    if task.autoencoder is not None:
        trial, interrupted = _trial(rows, n_pixels, trimming.noise_of_sum, choice, task, run)
        learnt = replace(learnt, trial=trial, interrupted=interrupted)
        if trial and (trial.better or not task.only_if_better):
            leverage = leverage_of(trial.model.basis.project(rows), n) * np.sqrt(n_pixels)
            return replace(learnt, reference=replace(reference, model=trial.model, leverage=leverage))
    coefficients = reference.coefficients(rows)
    leverage, design = leverage_of(coefficients, n), design_of(coefficients, np.ones(len(rows)))  # of patches
    sums = PatchRows(rows, design, np.full(len(rows), n_pixels), trimming.noise_of_sum)
    reference = _with_errors(replace(reference, leverage=leverage), sums, task, _ORDINARY)
    return replace(learnt, reference=replace(reference, leverage=leverage * np.sqrt(n_pixels)))  # of pixels


def measure_errors(reference: ReferenceModel, patches: PatchSums, task: LearningTask) -> ReferenceModel:
    r"""Measure how far a model that was learnt elsewhere describes this map.

    Parameters
    ----------
    reference
        The model.
    patches
        (\*patches, E + D) sums of spectra and of their coefficients.
    task
        Gives windows, line width and the smoothing of the search for shifts.
    """
    used = patches.used
    reference = replace(reference, side=patches.side)
    if not used.any():
        nothing = np.zeros(len(task.windows), np.float32)
        return replace(reference, windows=task.windows, line_width=task.line_width, model_error=nothing)
    rows, coefficients = np.split(patches.sums[used], [len(reference.basis.weights)], axis=1)
    counts = patches.counts[used]
    sums = PatchRows(rows, design_of(coefficients, counts), counts, reference.noise)
    return _with_errors(reference, sums, task, _ORDINARY_ELSEWHERE)


def _with_errors(reference: ReferenceModel, sums: PatchRows, task: LearningTask, fraction: float) -> ReferenceModel:
    """Return the model with its errors, from the residuals of this fraction of the patches."""
    model = reference.scan_model()
    error, shifts = model_error_of(model, sums, task.windows, fraction=fraction), None
    if task.shift_smoothing is not None:
        shifts = shift_scan_of(model, sums, smoothing=task.shift_smoothing, fraction=fraction)
    return replace(reference, windows=task.windows, line_width=task.line_width, model_error=error, shift_scan=shifts)


def _trial(
    rows: np.ndarray, n_pixels: float, noise: NoiseModel, choice: ComponentChoice, task: LearningTask, run: Run
) -> tuple[NetworkTrial | None, bool]:
    """Return the autoencoder, None where it diverged unneeded, or was stopped at once, and if it was stopped."""
    assert task.autoencoder is not None
    trial = None
    try:
        with run.progress.enter("Train network"):
            trial = try_network(rows, n_pixels, noise, choice, task.autoencoder, run)
    except TrainingDivergedError as error:
        if not task.only_if_better:
            raise TrainingDivergedError(
                f"anomaly_map(architecture={task.autoencoder.name!r}): {error}. Train more gently, config="
                "specml.TrainConfig(learning_rate=5e-4); PCA does not train: architecture='pca'."
            ) from error
        _logger.warning("anomaly_map(): PCA is the reference model, because for the autoencoder %s", error)
    except STOPPED:
        if trial is None:
            _logger.warning("anomaly_map(): PCA is the reference model, as no network was trained so far")
        return trial, True
    return trial, trial is not None and trial.history.interrupted


@dataclass(frozen=True)
class Trimming:
    """Fits PCA to patches, and leaves those out that may be rare."""

    patches: PatchSums
    task: LearningTask
    run: Run

    @property
    def noise_of_sum(self) -> NoiseModel:
        """Noise model of the sum over a patch."""
        counts = self.patches.counts
        return noise_of_sums(self.task.noise, float(np.median(counts[counts > 0])))

    def fit(
        self, keep: np.ndarray, smoothings: Sequence[float], n_components: int | None
    ) -> tuple[ReferenceModel, ComponentChoice]:
        """Fit PCA to the patches that are kept."""
        rows, noise, task = self.patches.sums[keep], self.noise_of_sum, self.task
        choice = choose_components(rows, noise, smoothings, n_components, seed=self.run.seed)
        basis = principal_basis(moments_of(rows), noise, n_vectors=choice.n_components, smoothing=choice.smoothing)
        n_spectra = int(self.patches.counts[keep].sum())
        reference = ReferenceModel(LinearModel(basis), task.noise, n_spectra, self.patches.side)
        return reference if task.known is None else reference.with_reference_spectra(task.known), choice

    def fit_without_rare(self) -> tuple[ReferenceModel, np.ndarray, ComponentChoice]:
        """Return PCA, the patches that it was fitted to, and the choice of its components."""
        task, progress = self.task, self.run.progress
        keep = self.patches.used.copy()
        smoothings = tuple(s for s in _SMOOTHINGS if s <= _SMOOTHEST * task.windows.widths.min())
        for i in range(_ROUNDS):
            reference, choice = self.fit(keep, smoothings, task.n_components)
            smoothings = (choice.smoothing,)  # a property of the data, not of the patches that are left
            keep &= ~self.rare(reference, keep)
            progress.advance((i + 1) / (_ROUNDS + 2))
        reference, choice = self.fit(keep, smoothings, task.n_components)
        back = self.described(reference, keep)
        n = task.n_components or choice.with_spare(task.n_spare)
        if back.any() or n > choice.n_components:
            keep |= back
            reference, _ = self.fit(keep, smoothings, n)
        return reference, keep, replace(choice, n_components=n)

    def rare(self, reference: ReferenceModel, keep: np.ndarray) -> np.ndarray:
        """Return the patches that the model does not describe, or that alone are behind one component.

        The first contain what the model lacks. The second contain something rare that the model has learnt:
        along that component they lie far from all others. Where ordinary spectra lie far apart, such as
        grains of a few phases, they do not; but then the component exists because of one place.
        """
        beyond = self._beyond(reference, keep, strongest=_RARE, farthest=_RARE)
        return self.patches.used & (beyond | self._alone(reference, keep))

    def _alone(self, reference: ReferenceModel, keep: np.ndarray) -> np.ndarray:
        """Return the patches in the middle of places without which the model would lack a component.

        Patches beside something rare are included: the little of it that reaches into one would make the
        component again.
        """
        part = _PLACE**keep.ndim / keep.sum()
        scores = np.zeros((*keep.shape, reference.basis.n_vectors))
        scores[keep] = reference.coefficients(self.patches.sums[keep])
        return largest_contribution(scores, _PLACE) > max(_ALONE, _TIMES_ITS_PART * part)

    def described(self, reference: ReferenceModel, keep: np.ndarray) -> np.ndarray:
        """Return the patches left out that the model describes all the same, without having learnt them.

        They are extremes of what is ordinary, such as a scan line that drifted far. If they lie very far
        away, the model may have learnt something rare from a patch that was kept.
        """
        beyond = self._beyond(reference, keep, strongest=_DESCRIBED, farthest=_FARTHEST)
        return self.patches.used & ~keep & ~beyond

    def _beyond(self, reference: ReferenceModel, keep: np.ndarray, *, strongest: float, farthest: float) -> np.ndarray:
        """Return the patches whose strongest window, squared, or whose distance of the composition is too large.

        Both limits are relative to what 5 % of the patches that are kept exceed.
        """
        used, shape = self.patches.used, self.patches.counts.shape
        rows = np.where(used[..., None], self.patches.sums, 0)
        flat = reference.coefficients(rows.reshape(-1, rows.shape[-1]))
        coefficients = np.where(used[..., None], flat.reshape(*shape, -1), 0)
        model = replace(reference.scan_model(), noise=self.noise_of_sum)
        scan = Scan(model, self.task.windows, radii=(0,))
        strength = np.square(scan.strongest(rows, coefficients, used).z)
        total = rows.sum(axis=-1)
        distance = np.zeros(shape)
        if gain_of(self.task.noise):  # the composition is what counts; signed data have no sum to divide by
            coefficients = coefficients / np.where(used, np.maximum(total, 1e-3 * total[used].mean()), 1)[..., None]
        distance[used] = robust_distance(coefficients[used])
        strong = strength > strongest * float(np.quantile(strength[keep], 0.95))
        return strong | (distance > farthest * float(np.quantile(distance[keep], 0.95)))


def leverage_of(coefficients: np.ndarray, n_vectors: int) -> np.ndarray:
    """Return (D, L): how much noise of the spectra the first vectors, learnt from them, contain.

    Vectors with much more variance than noise are approximately a regression on the coefficients.

    Parameters
    ----------
    coefficients
        (n, D) of the spectra.
    n_vectors
        Vectors that were learnt.
    """
    values, turn = np.linalg.eigh(coefficients[:, :n_vectors].T.astype(np.float64) @ coefficients[:, :n_vectors])
    some = values > 1e-12 * values.max()
    leverage = np.zeros((coefficients.shape[1], int(some.sum())))
    leverage[:n_vectors] = turn[:, some] / np.sqrt(values[some])
    return leverage


def noise_of_sums(noise: NoiseModel, n: float) -> NoiseModel:
    """Return the noise model of sums of n spectra."""
    if not isinstance(noise, PoissonGaussianNoise):
        return noise
    return replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)


def design_of(coefficients: np.ndarray, n_pixels: np.ndarray) -> np.ndarray:
    """Return (n, D + 1) factors of the spectra of a model and of its offset."""
    return np.column_stack([coefficients, n_pixels.astype(np.float32)])


@dataclass(frozen=True)
class PatchRows:
    """Sums over n patches of pixels, and what a model says of them. E channels in use, D coefficients.

    Attributes
    ----------
    rows, design
        (n, E) sums, and the (n, D + 1) factors of the spectra of a model and of its offset, see `design_of`.
    n_pixels
        (n,) pixels in each.
    noise
        Noise model of one of what the last column of `design` counts: of a whole patch, or of a pixel.
    """

    rows: np.ndarray = field(repr=False)
    design: np.ndarray = field(repr=False)
    n_pixels: np.ndarray = field(repr=False)
    noise: NoiseModel


def model_error_of(model: ScanModel, patches: PatchRows, windows: Windows, *, fraction: float) -> np.ndarray:
    """Return (J,) the error of a model, where residuals scatter more than noise does; see `Scan.error_level`.

    A curved family of spectra, such as a peak that shifts, is never described entirely by a few components.
    Without this error the scan would find the rest of it in many places.

    Parameters
    ----------
    model
        What is expected of a pixel.
    patches
        Sums over patches.
    windows
        Windows of energy.
    fraction
        Fraction of the patches whose residuals are errors of the model; the others may be anomalies.
    """
    scan = Scan(replace(model, noise=patches.noise), windows, radii=(0,))
    error, rows, design = np.zeros(len(windows), np.float32), patches.rows, patches.design
    pixels, n_pixels = Scan(model, windows), patches.n_pixels[:, None].astype(np.float32)
    allowed = _allowed_square(fraction, len(rows))
    for group in windows.groups(_GROUP):
        expected, variance = scan.moments(design, group)
        squares = np.abs(scan.score(windows.sums(rows, group).astype(np.float32), design, group))
        level = pixels.error_level(np.maximum(expected, 1e-6), n_pixels, group)
        needed = variance * (squares / allowed - 1) / level**2
        error[group] = np.sqrt(np.maximum(np.quantile(needed, fraction, axis=0), 0))
    return error


def shift_scan_of(model: ScanModel, patches: PatchRows, *, smoothing: float, fraction: float) -> ShiftScan | None:
    """Prepare the search for shifts, with the shifts that ordinary spectra have as its error.

    Parameters
    ----------
    model, patches, fraction
        See `model_error_of`.
    smoothing
        Standard deviation, in channels, of the Gaussian whose derivative is taken.
    """
    scan = ShiftScan.of(model, patches.rows.mean(axis=0, dtype=np.float64), smoothing)
    if scan is None:
        return None
    noise = noise_of_sums(patches.noise, float(np.median(patches.design[:, -1])))
    sums = scan.sums(patches.rows, patches.design[:, :-1], patches.design[:, -1], noise)
    extreme = scan.needed_error(sums, _allowed_square(fraction, len(sums)))
    most = scan.needed_error(sums, float(chi2.ppf(_ORDINARY_SHIFTS, 1)))
    needed = max(np.quantile(extreme, fraction), np.quantile(most, _ORDINARY_SHIFTS), 0)
    return replace(scan, model_error=float(np.sqrt(needed)))


def _allowed_square(fraction: float, n: int) -> float:
    """Return the squared deviate that this fraction of n of them does not exceed, even by chance."""
    quantile = chi2.ppf(fraction, 1)
    return float(quantile + 2 * np.sqrt(fraction * (1 - fraction) / n) / chi2.pdf(quantile, 1))
