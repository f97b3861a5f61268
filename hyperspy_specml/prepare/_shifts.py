"""Shifts of spectra along energy by likelihood: templates and the distribution of shifts are learnt together.

A spectrum is an unknown intensity times a template (or a mixture of few), moved by an unknown shift. Expectation
maximisation over a grid of shifts finds what the templates and the distribution of the shifts are; the shift of a
spectrum is then the mean of its posterior distribution, its error the standard deviation. Templates are learnt from
all shifts at once, weighted by their probability: spectra that were aligned first and averaged then are aligned by
their own noise.

The ends of the scan are left out of the comparison, as many channels as spectra may be shifted by: what moves in and
out there would have to be invented.

References
----------
A. P. Dempster, N. M. Laird, D. B. Rubin, "Maximum likelihood from incomplete data via the EM algorithm", J. R. Stat.
Soc. B 39 (1977) 1; B. J. Frey, N. Jojic, "Transformation-invariant clustering using the EM algorithm", IEEE Trans.
Pattern Anal. Mach. Intell. 25 (2003) 1, doi:10.1109/TPAMI.2003.1159942; B. W. Silverman et al., "A smoothed EM
approach to indirect estimation problems", J. R. Stat. Soc. B 52 (1990) 271.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from hyperspy_specml.exceptions import TooFewSpectraError
from hyperspy_specml.prepare._templates import N_BEYOND, Templates, fit_templates
from hyperspy_specml.statistics import gain_of, paired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel

# Values that templates are learnt from, at most: they are smooth, and thousands of spectra are enough.
_LEARNT = 1 << 23
# Values of a table of spectra and shifts that is worked on at a time.
_SLAB = 1 << 22
# Share of the channels that spectra may be shifted by, each way: at first, and at most.
_FIRST_RANGE, _LARGEST_RANGE = 0.05, 0.2
# Share of the spectra near the ends of the range of shifts from which a larger one is tried.
_AT_END = 0.01
# Steps of a mixture between two templates; of a mixture of more there are fewer.
_STEPS = {1: 1, 2: 5, 3: 3, 4: 2}
# Templates, at most, that are chosen where their number was not given.
_MOST_CHOSEN = 3
# Channels over which templates may be smooth; held-out spectra choose.
_SMOOTHINGS = (0.3, 1.0, 3.0)
# Iterations: at first, to choose, and at last.
_COARSE, _TRIAL, _FINE = 12, 8, 30
# Standard deviation of the Gaussian that the distribution of shifts is smoothed with, relative to its own.
_PRIOR_SMOOTHING = 0.3
# Steps of the variance of the prior that are taken at once, at most.
_FASTEST = 8.0
# Standard deviations of the prior that the final range holds.
_TAILS = 4.0
# Steps of the grid, at most, in standard deviations of the posterior distribution of a shift.
_WIDEST_STEP = 1.2
# Finest grid, in parts of a channel.
_FINEST = 8
# Smallest prediction, relative to the mean spectrum.
_FLOOR = 1e-3


@dataclass(frozen=True)
class ShiftModel:
    """Templates, and how they mix and are shifted.

    Attributes
    ----------
    templates
        K spectra at shift 0.
    mixing
        (M, K) shares of the templates in the mixtures that are compared.
    mixing_prior, shift_prior
        (M,) and (S,) probabilities.
    shifts
        (S,) the grid, in channels.
    channels
        (W,) the channels that are compared.
    noise
        Noise model of a spectrum.
    floor
        (W,) smallest prediction.
    origin
        Shift on the grid that is called 0.
    """

    templates: Templates
    mixing: np.ndarray
    mixing_prior: np.ndarray
    shift_prior: np.ndarray
    shifts: np.ndarray
    channels: np.ndarray
    noise: NoiseModel
    floor: np.ndarray = field(repr=False)
    origin: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the noise grows with the signal; then intensities are sums."""
        return gain_of(self.noise) > 0

    @property
    def typical(self) -> tuple[float, float]:
        """Mean and standard deviation of the distribution of shifts, in channels."""
        mean = float(self.shift_prior @ self.shifts)
        return mean, float(np.sqrt(max(self.shift_prior @ self.shifts**2 - mean**2, 0)))

    @cached_property
    def predictions(self) -> np.ndarray:
        """(M, S, W) spectra of the shifted mixtures."""
        values = np.einsum("mk,ksw->msw", self.mixing, self.templates.shifted(self.shifts, self.channels))
        return np.maximum(values, self.floor) if self.counts else values

    @cached_property
    def _size(self) -> np.ndarray:
        """(M, S) what intensities are relative to."""
        return self.predictions.sum(axis=-1) if self.counts else np.square(self.predictions).sum(axis=-1)

    @cached_property
    def _reference(self) -> np.ndarray:
        """(W,) logarithm of the typical shares, that single precision need only hold differences to."""
        return np.log(self.predictions / self._size[..., None]).mean(axis=(0, 1)) if self.counts else 0 * self.floor

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, W) values in units of a count, or of their noise."""
        values, noise = rows[:, self.channels], self.noise
        if not self.counts:
            return values.astype(np.float64) / max(getattr(noise, "readout", 1.0), 1e-300)
        gain, offset, readout = gain_of(noise), getattr(noise, "offset", 0.0), getattr(noise, "readout", 0.0)
        # A Poisson variable with as much more of mean and variance as the readout adds (D. L. Snyder et al.,
        # J. Opt. Soc. Am. A 12 (1995) 272).
        return ((values.astype(np.float64) - offset) / gain + (readout / gain) ** 2).astype(np.float32)

    def log_likelihood(self, values: np.ndarray) -> np.ndarray:
        """Return (n, M S) log-likelihoods of `seen` values at their most likely intensity, up to a constant each.

        Noise that is correlated along energy tells less: by its power at low frequencies, as templates are smooth.
        """
        flat, size = self.predictions.reshape(-1, len(self.channels)), self._size.reshape(-1)
        if self.counts:
            found = values @ (np.log(flat / size[:, None]) - self._reference).astype(np.float32).T
        else:
            found = np.maximum(values @ (flat / np.sqrt(size)[:, None]).T, 0) ** 2 / 2
        return found / max(2 * sum(self.noise.correlation) - 1, 0.1)

    def assign(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, M S) probabilities of mixtures and shifts of `seen` values, and (n,) log-likelihoods."""
        prior = np.log(np.maximum(self.mixing_prior, 1e-30))[:, None] + np.log(np.maximum(self.shift_prior, 1e-30))
        joint = self.log_likelihood(values) + prior.reshape(-1)
        largest = joint.max(axis=1, keepdims=True)
        joint = np.exp(joint - largest)
        total = joint.sum(axis=1, keepdims=True)
        constant = values.astype(np.float64) @ self._reference
        return (joint / total).astype(values.dtype), (largest + np.log(total))[:, 0] + constant

    def estimate(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, 2) shifts of spectra in channels, and their standard deviations."""
        found = np.empty((len(rows), 2))
        for some in self._slabs(len(rows)):
            found[some] = self._posterior(self.seen(rows[some]))
        return found

    def _posterior(self, values: np.ndarray) -> np.ndarray:
        joint, _ = self.assign(values)
        of_shift = joint.reshape(len(values), *self._size.shape).sum(axis=1, dtype=np.float64)
        mean = of_shift @ self.shifts
        error = np.sqrt(np.maximum(((self.shifts - mean[:, None]) ** 2 * of_shift).sum(axis=1), 0))
        sharp = np.flatnonzero(error < (self.shifts[1] - self.shifts[0]) / 2)
        mean[sharp], error[sharp] = self._between_points(values[sharp], joint[sharp])
        return np.stack([mean - self.origin, error], axis=1)

    def _between_points(self, values: np.ndarray, joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return shifts and errors where one grid point has most of the probability.

        The log-likelihood is a parabola through it and its neighbours.
        """
        n_shifts, step = len(self.shifts), self.shifts[1] - self.shifts[0]
        mixture, top = np.divmod(joint.argmax(axis=1), n_shifts)
        top = np.clip(top, 1, n_shifts - 2)
        places = (mixture * n_shifts + top)[:, None] + np.arange(-1, 2)
        left, here, right = np.take_along_axis(self.log_likelihood(values).astype(np.float64), places, axis=1).T
        bend = np.maximum(2 * here - left - right, 1e-12)
        return self.shifts[top] + step * np.clip(0.5 * (right - left) / bend, -1, 1), step / np.sqrt(bend)

    def updated(self, values: np.ndarray, *, smoothing: float, n_channels: int) -> tuple[ShiftModel, float]:
        """Return the model after one step of expectation maximisation, and the mean log-likelihood before it."""
        shape = self.predictions.shape
        sums, amplitude = np.zeros(shape), np.zeros(shape[:2])
        probability, squares, likelihood = np.zeros(shape[:2]), 0.0, 0.0
        for some in self._slabs(len(values)):
            joint, found = self.assign(values[some])
            likelihood += float(found.sum())
            probability += joint.sum(axis=0, dtype=np.float64).reshape(shape[:2])
            squares += float(np.sum((joint.reshape(-1, *shape[:2]).sum(axis=1) @ self.shifts) ** 2))
            if self.counts:
                amplitude += (joint.T @ values[some].sum(axis=1)).reshape(shape[:2]) / self._size
            else:
                projected = values[some] @ self.predictions.reshape(-1, shape[2]).T
                intensity = np.maximum(projected, 0) / self._size.reshape(-1)
                amplitude += (joint * intensity**2).sum(axis=0).reshape(shape[:2])
                joint = joint * intensity
            sums += (joint.T @ values[some]).reshape(shape)
        inverse = 1 / self.predictions if self.counts else np.ones(shape)
        weights, grid = amplitude[..., None] * inverse, (self.mixing, self.shifts, self.channels)
        templates = fit_templates(sums * inverse, weights, *grid, n_channels=n_channels, smoothing=smoothing)
        probability /= len(values)
        prior = self._next_prior(probability.sum(axis=0), squares / len(values))
        new = replace(self, templates=templates, mixing_prior=probability.sum(axis=1), shift_prior=prior)
        return new, likelihood / len(values)

    def _next_prior(self, probability: np.ndarray, square: float) -> np.ndarray:
        """Return the next distribution of shifts, from the mean of their posteriors and the mean square of their means.

        Where spectra say little the variance would take hundreds of steps: it takes as many at once.
        """
        mean, before = probability @ self.shifts, self.typical[1] ** 2
        after = probability @ self.shifts**2 - mean**2
        told = np.clip((square - mean**2) / max(after, 1e-300), 0, 1)
        faster = min(_FASTEST, 1 / max(told, 1e-3) ** 2)
        least = (0.3 * (self.shifts[1] - self.shifts[0])) ** 2
        before = max(before, least)
        ratio = np.clip(faster * np.log(max(after, least) / before), -1, 1)
        return smooth_distribution(probability, self.shifts, before * np.exp(ratio))

    def _slabs(self, n: int) -> Iterator[slice]:
        step = max(1, _SLAB // (len(self.mixing) * len(self.shifts)))
        return (slice(start, start + step) for start in range(0, n, step))


def smooth_distribution(probability: np.ndarray, shifts: np.ndarray, variance: float) -> np.ndarray:
    """Return a smoother distribution of the same mean.

    Steps of expectation maximisation with it end in a normal distribution where single spectra say little, and follow
    the data where they say much.

    Parameters
    ----------
    probability, shifts
        (S,) on an even grid.
    variance
        Of the distribution that is returned, as far as the grid has room for it.
    """
    mean, step = probability @ shifts, shifts[1] - shifts[0]
    own = max(float(probability @ shifts**2 - mean**2), (0.1 * step) ** 2)
    smooth = gaussian_filter1d(probability, max(_PRIOR_SMOOTHING * np.sqrt(own) / step, 0.5), mode="constant")
    smooth /= smooth.sum()
    wide_mean = smooth @ shifts
    wide = max(float(smooth @ shifts**2 - wide_mean**2), 1e-300)
    factor = np.sqrt(wide / max(variance, (0.3 * step) ** 2))
    found = np.interp(wide_mean + (shifts - mean) * factor, shifts, smooth, left=0, right=0)
    return found / found.sum() if found.sum() > 0 else smooth


@dataclass(frozen=True)
class ShiftTask:
    """What is asked of an estimate of shifts.

    Attributes
    ----------
    most
        Largest shift in channels, each way; None finds it.
    n_templates
        Number of templates; None chooses one to three.
    """

    most: int | None = None
    n_templates: int | None = None


@dataclass(frozen=True)
class LearntShifts:
    """A model of shifts and how it was chosen.

    Attributes
    ----------
    model
        Its shifts are 0 on average.
    smoothing
        Channels that its templates are smooth over.
    gain
        By how much two templates predict held-out spectra better than one, in log-likelihood per spectrum, and the
        standard error of that; None where the number was given.
    at_end
        Share of the spectra whose shift may be beyond the range.
    """

    model: ShiftModel
    smoothing: float
    gain: tuple[float, float] | None
    at_end: float

    def spectra(self) -> np.ndarray:
        """Return the (K, E) templates at shift 0, in units of the data; of these, a spectrum is any multiple."""
        noise, model = self.model.noise, self.model
        whole = np.arange(model.templates.knots.shape[1] - N_BEYOND)
        values = model.templates.shifted(np.array([model.origin]), whole)[:, 0]
        if not model.counts:
            return values * getattr(noise, "readout", 1.0)
        gain, offset, readout = gain_of(noise), getattr(noise, "offset", 0.0), getattr(noise, "readout", 0.0)
        return (values - (readout / gain) ** 2) * gain + offset


def learn_shifts(rows: np.ndarray, channels: np.ndarray, noise: NoiseModel, task: ShiftTask, run: Run) -> LearntShifts:
    """Learn templates and the distribution of shifts.

    Parameters
    ----------
    rows
        (n, E) spectra, all channels.
    channels
        (E,) bool, those in use.
    noise
        Of one spectrum.
    task
        What is asked for.
    run
        Its progress and seed.

    Raises
    ------
    TooFewSpectraError
        Fewer than two spectra, or too few channels for such shifts.
    """
    most = max(2, len(rows) and _LEARNT // rows.shape[1])
    if len(rows) > most:
        rows = rows[np.random.default_rng(run.seed).choice(len(rows), most, replace=False)]
    learning = _Learning(rows, channels, noise)
    with run.progress.enter("Learn templates"):
        model, at_end = learning.first(task.most)
        run.progress.advance(0.3)
        number, smoothing, gain = learning.choose(model, task.n_templates)
        run.progress.advance(0.6)
        model = learning.start(model, rows, number)
        model = learning.learn(model, rows, smoothing, _FINE)
    return LearntShifts(replace(model, origin=model.typical[0]), smoothing, gain, at_end)


@dataclass(frozen=True)
class _Learning:
    """Spectra to learn from: (n, E), the channels in use, and the noise."""

    rows: np.ndarray
    channels: np.ndarray
    noise: NoiseModel

    def first(self, most: int | None) -> tuple[ShiftModel, float]:
        """Return a coarse model over a range that holds all shifts, then one over that range on a fine grid."""
        n = len(self.channels)
        reach = most or max(2, round(_FIRST_RANGE * n))
        while True:
            model = self.learn(self.begin(np.arange(-reach, reach + 1.0)), self.rows, 1.0, _COARSE)
            inner = np.abs(model.shifts) <= 0.8 * reach
            at_end = float(model.shift_prior[~inner].sum())
            if most or at_end < _AT_END or 2 * reach > _LARGEST_RANGE * n:
                break
            reach *= 2
        mean, deviation = model.typical
        error = float(np.median(model.estimate(self.rows[:256])[:, 1]))
        reach = reach if most else min(reach, int(np.ceil(max(abs(mean) + _TAILS * deviation, 2))))
        parts = int(np.clip(np.ceil(1 / max(_WIDEST_STEP * error, 1e-3)), 1, _FINEST))
        fine = self.begin(np.arange(-reach * parts, reach * parts + 1) / parts)
        prior = np.interp(fine.shifts, model.shifts, model.shift_prior) + 1e-12
        return replace(fine, templates=model.templates, shift_prior=prior / prior.sum()), at_end

    def begin(self, shifts: np.ndarray) -> ShiftModel:
        """Return the model of the mean spectrum and a wide distribution of shifts."""
        reach, n = int(np.ceil(shifts[-1])), len(self.channels)
        inside = np.arange(reach, n - reach)
        compared = inside[self.channels[inside]]
        if len(compared) < 2 or len(self.rows) < 2:
            raise TooFewSpectraError(
                f"estimate_shift() compares {len(compared)} channels of {len(self.rows)} spectra, as shifts of "
                f"{reach} channels leave as many out at each end. Ask for less, max_shift=..., or mask less."
            )
        prior = np.exp(-0.5 * (shifts / max(reach / 3, 0.5)) ** 2)
        ones, nothing = np.ones((1, 1)), Templates(np.zeros((1, n + N_BEYOND)))
        model = ShiftModel(
            nothing, ones, ones[0], prior / prior.sum(), shifts, compared, self.noise, np.zeros(len(compared))
        )
        everywhere = replace(model, channels=np.arange(n)).seen(self.rows).mean(axis=0, dtype=np.float64)
        everywhere[~self.channels] = np.interp(
            np.flatnonzero(~self.channels), np.flatnonzero(self.channels), everywhere[self.channels]
        )
        mean = everywhere[compared]
        floor = np.maximum(_FLOOR * np.maximum(mean, mean.mean()), 1e-12)
        return replace(model, templates=Templates.of(everywhere[None]), floor=floor)

    def start(self, model: ShiftModel, rows: np.ndarray, number: int) -> ShiftModel:
        """Return the model with more templates: what spectra differ by, beside a shift."""
        if number == 1:
            return model
        steps = _STEPS.get(number, 1)
        grid = [one for one in itertools.product(range(steps + 1), repeat=number) if sum(one) == steps]
        mixing, whole = np.array(grid) / steps, np.arange(len(self.channels))
        mean = model.templates.shifted(np.zeros(1), whole)[0, 0]
        scale = 1 / np.sqrt(np.maximum(mean, _FLOOR * mean.mean())) if model.counts else np.ones(len(whole))
        values = replace(model, channels=whole).seen(rows) * self.channels
        size = np.maximum(values.sum(axis=1, keepdims=True), 1e-12) if model.counts else np.ones((len(rows), 1))
        smooth = gaussian_filter1d(values / size * mean.sum() if model.counts else values, 2.0, axis=1)
        white = (smooth - smooth.mean(axis=0)) * scale * self.channels
        known = np.linalg.qr(np.stack([mean, np.gradient(mean)], axis=1) * scale[:, None])[0]
        white -= white @ known @ known.T
        vectors = np.linalg.eigh(white.T @ white)[1][:, :-number:-1] if number > 1 else np.zeros((len(whole), 0))
        spread = (white @ vectors).std(axis=0)
        corners = np.eye(number)[:, : number - 1] - 1 / number
        spectra = mean + (2 * corners * spread) @ vectors.T / scale
        if model.counts:
            spectra = np.maximum(spectra, 0.05 * mean)
        even = np.full(len(mixing), 1 / len(mixing))
        return replace(model, templates=Templates.of(spectra), mixing=mixing, mixing_prior=even)

    def learn(self, model: ShiftModel, rows: np.ndarray, smoothing: float, n_steps: int) -> ShiftModel:
        """Return the model after some steps of expectation maximisation."""
        values = model.seen(rows)
        for _ in range(n_steps):
            model, _ = model.updated(values, smoothing=smoothing, n_channels=len(self.channels))
        return model

    def choose(self, model: ShiftModel, number: int | None) -> tuple[int, float, tuple[float, float] | None]:
        """Return number of templates and smoothing that predict the other half of the spectra best.

        Each template more has to be better by more than two standard errors.
        """
        scores = {smoothing: self._held_out(model, number or 1, smoothing) for smoothing in _SMOOTHINGS}
        best = max(_SMOOTHINGS, key=lambda smoothing: scores[smoothing].mean())
        if number is not None:
            return number, best, None
        chosen, held, gains = 1, scores[best], []
        for more in range(2, _MOST_CHOSEN + 1):
            before, held = held, self._held_out(model, more, best)
            gains.append(paired(held, before))
            if gains[-1].difference <= 2 * gains[-1].standard_error:
                break
            chosen = more
        return chosen, best, (gains[0].difference, gains[0].standard_error)

    def _held_out(self, model: ShiftModel, number: int, smoothing: float) -> np.ndarray:
        """Return the log-likelihoods of every other spectrum under a model learnt from the rest."""
        mine, others = self.rows[::2], self.rows[1::2]
        mean = replace(model, channels=np.arange(len(self.channels))).seen(mine).mean(axis=0, dtype=np.float64)
        begun = replace(model, templates=Templates.of(mean[None]))
        learnt = self.learn(self.start(begun, mine, number), mine, smoothing, _TRIAL)
        values = learnt.seen(others)
        return np.concatenate([learnt.assign(values[some])[1] for some in learnt._slabs(len(values))])
