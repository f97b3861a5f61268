"""A mixture of phases: fitted by expectation maximisation, and grown by splitting what is two phases in one.

Where two phases meet, the beam sees both. Pixels there may be mixtures of the two, in sixths; such pixels shape no
phase, so borders do not become phases of their own.

References
----------
A. P. Dempster, N. M. Laird, D. B. Rubin, J. R. Stat. Soc. B 39 (1977) 1 (expectation maximisation).
N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62 (where a split begins).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hyperspy_specml.latent._grid import SWEEPS, Grid, mixed_posterior, posterior, softmax

if TYPE_CHECKING:
    from hyperspy_specml.latent._laws import Law

# Mean change of the probabilities of a pixel that ends the iterations.
_SETTLED = 1e-3
# Smallest share of a phase that its prior stands for: what is rarer is a phase by its spectra.
_LEAST_PRIOR = 1e-3
# Shares of the first of two phases in a mixed pixel.
_PARTS = (1 / 6, 1 / 3, 0.5, 2 / 3, 5 / 6)
# Iterations for the direction of a split, and of the two phases in one alone.
_DIRECTIONS, _ALONE = 8, 6
# Times that neighbours are averaged where many of them are judged together, and of how many pixels that is the mean.
_WIDE, _WIDE_SUM = 4, 16.0
# Sweeps over all pixels that start from probabilities which are nearly right, and in each of many iterations.
_WARM_SWEEPS, _STEP_SWEEPS = 2, 1
# Pixels of a phase away from its borders that are enough to say along which direction it is split.
_LEAST_INSIDE = 30
# Part of the border pixels that are mixtures, to begin with, and times that it is found from what they are.
FIRST_MIXED, _SETTLING = 0.3, 3
# Part of the border pixels that are mixtures, at least and at most: none is ruled out.
_LEAST_AND_MOST_MIXED = 1e-3, 0.9
_NEVER = np.float32(-1e30)  # log evidence of what cannot be


@dataclass(frozen=True, eq=False)
class Data:
    """Spectra to be explained. n pixels, G groups of channels.

    Attributes
    ----------
    values
        (n, G) float32 spectra, as the law takes them; 0 where a pixel is not used.
    law
        Of their noise.
    grid
        The pixels.
    given
        (n,) int, the phase of pixels whose phase is known, else -1.
    """

    values: np.ndarray
    law: Law
    grid: Grid
    given: np.ndarray = field(repr=False)

    def of_mixtures(self, mixture: Mixture, shares: np.ndarray, border: np.ndarray) -> np.ndarray:
        """Return the (M, b) log likelihood of some pixels under mixtures of phases of (M, K) shares."""
        return self.law.evidence(self.values[border], shares @ alike(mixture.spectra))


class Pixels(Protocol):
    """Pixels whose likelihoods under phases and mixtures can be had."""

    @property
    def grid(self) -> Grid:
        """The pixels in their order."""
        ...

    @property
    def given(self) -> np.ndarray:
        """(n,) int, the phase of pixels whose phase is known, else -1."""
        ...

    def of_mixtures(self, mixture: Mixture, shares: np.ndarray, border: np.ndarray) -> np.ndarray:
        """Return the (M, b) log likelihood of some pixels under mixtures of phases of (M, K) shares."""
        ...


@dataclass(frozen=True, eq=False)
class Mixture:
    """Phases and how common they are. K phases.

    Attributes
    ----------
    spectra
        (K, G) spectra of any scale.
    prior
        (K,) shares.
    strength
        Of the Potts prior.
    mixed
        Part of the border pixels that are mixtures, before neighbours speak; None where there are no mixtures.
    n_fixed
        The first so many spectra are known and stay as they are.
    """

    spectra: np.ndarray
    prior: np.ndarray
    strength: float = 0.0
    mixed: float | None = None
    n_fixed: int = 0

    @property
    def n_phases(self) -> int:
        """Number of phases K."""
        return len(self.spectra)

    @property
    def log_prior(self) -> np.ndarray:
        """(K,) float32; the same for all phases where neighbours speak, or large phases would count twice."""
        if self.strength:
            return np.full(self.n_phases, -np.log(self.n_phases), np.float32)
        return np.log(np.maximum(self.prior, _LEAST_PRIOR)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Classes:
    """What a pixel may be: a phase, or near a border a mixture of two. b pixels are near one.

    Attributes
    ----------
    pure
        (K, n) probability of each phase; without mixtures.
    border
        (b,) indices of pixels that may be mixtures.
    mixed
        (M, b) their probabilities of phases and of mixtures.
    shares
        (M, K) shares of the phases in these; the first K are the phases.
    allowed
        (M - K, b) bool: the mixtures of two phases of which both occur near a pixel.
    """

    pure: np.ndarray
    border: np.ndarray
    mixed: np.ndarray
    shares: np.ndarray
    allowed: np.ndarray

    def _whole(self, of_border: np.ndarray) -> np.ndarray:
        found = self.pure.copy()
        found[:, self.border] = of_border
        return found

    @property
    def weights(self) -> np.ndarray:
        """(K, n) probability that a pixel is a phase and no mixture."""
        return self._whole(self.mixed[: len(self.pure)])

    @property
    def phase_probability(self) -> np.ndarray:
        """(K, n) probability that a phase has the largest share of a pixel."""
        largest = np.where(self.shares == 0.5, 0.5, self.shares > 0.5)
        return self._whole(largest.T.astype(np.float32) @ self.mixed)

    @property
    def mixed_part(self) -> float:
        """Part of the pixels near a border that are mixtures."""
        return float(self.mixed[len(self.pure) :].sum(dtype=np.float64)) / max(1, len(self.border))

    @property
    def phase_shares(self) -> np.ndarray:
        """(K, n) expected shares."""
        return self._whole(self.shares.T.astype(np.float32) @ self.mixed)


def pairs_of(n_phases: int) -> np.ndarray:
    """Return the (M - K, K) shares of all mixtures of two phases."""
    rows = []
    for one, other in combinations(range(n_phases), 2):
        for share in _PARTS:
            row = np.zeros(n_phases)
            row[one], row[other] = share, 1 - share
            rows.append(row)
    return np.reshape(rows, (-1, n_phases))


def fit(data: Data, mixture: Mixture, *, steps: int) -> tuple[Mixture, np.ndarray]:
    """Fit the spectra and shares of phases; see `fit_classes`.

    Parameters
    ----------
    data, mixture, steps
        As there.

    Returns
    -------
    the mixture, and the (K, n) weights with which pixels shape its phases
    """
    mixture, classes = fit_classes(data, mixture, steps=steps)
    return mixture, classes.weights


def fit_classes(
    data: Data, mixture: Mixture, *, steps: int, start: np.ndarray | None = None
) -> tuple[Mixture, Classes]:
    """Fit the spectra and shares of phases by expectation maximisation.

    Parameters
    ----------
    data
        The spectra.
    mixture
        To begin with.
    steps
        Iterations at most.
    start
        (K, n) probabilities of the phases that are nearly right.

    Returns
    -------
    the mixture, and what the pixels are
    """
    classes: Classes | None = None
    for _ in range(steps):
        before = classes
        evidence = data.law.evidence(data.values, mixture.spectra)
        begin, sweeps = (start, None) if before is None else (before.pure, _STEP_SWEEPS)
        classes = classify(data, mixture, evidence, start=begin, sweeps=sweeps)
        mixture = _updated(data, mixture, classes)
        if before and np.abs(classes.pure - before.pure).sum() < _SETTLED * data.grid.used.sum():
            break
    assert classes is not None
    return mixture, classes


def _updated(data: Data, mixture: Mixture, classes: Classes) -> Mixture:
    """Return the mixture of largest likelihood, given what the pixels are."""
    spectra = data.law.update(data.values, classes.weights, mixture.spectra)
    spectra[: mixture.n_fixed] = mixture.spectra[: mixture.n_fixed]
    prior = classes.phase_shares.sum(axis=1, dtype=np.float64) / max(1, int(data.grid.used.sum()))
    mixed = mixture.mixed
    if mixed is not None and len(classes.border):
        mixed = classes.mixed_part
    return replace(mixture, spectra=spectra, prior=prior, mixed=mixed)


def with_mixtures(
    pixels: Pixels, mixture: Mixture, evidence: np.ndarray, *, start: np.ndarray | None = None
) -> tuple[Mixture, Classes]:
    """Return the mixture of these spectra with as many mixed pixels as there are, and what the pixels are.

    Parameters
    ----------
    pixels, mixture, evidence, start
        See `classify`.
    """
    if mixture.mixed is not None:
        mixture = replace(mixture, mixed=FIRST_MIXED)
    classes = classify(pixels, mixture, evidence, start=start)
    for _ in range(_SETTLING if len(classes.border) else 0):
        mixture = replace(mixture, mixed=_mixed_part(pixels.grid, mixture, classes))
        classes = classify(pixels, mixture, evidence, start=classes.pure)
    return mixture, classes


def _mixed_part(grid: Grid, mixture: Mixture, classes: Classes) -> float:
    """Return the part of the border pixels that are mixtures, before neighbours speak.

    Neighbours draw a pixel to phases rather than to mixtures. What is found would draw it there again the next time,
    down to no mixtures at all, so the odds are scaled until neighbours alone expect as many as are found.
    """
    shares = classes.shares.astype(np.float32)
    pull = np.float32(mixture.strength) * (shares @ grid.neighbours(classes.phase_shares)[:, classes.border])
    expected = replace(classes, mixed=softmax(_log_prior_of(mixture, classes.shares, classes.allowed) + pull))
    ratio = _odds(classes.mixed_part) / _odds(expected.mixed_part)
    scaled = _odds(_within(mixture.mixed)) * ratio**2  # one ratio leaves about half of the way
    return _within(scaled / (1 + scaled))


def _log_prior_of(mixture: Mixture, shares: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the (M, b) log prior of phases and mixtures: these are as common as their two phases are, on average."""
    mixed, common = _within(mixture.mixed), (shares @ mixture.log_prior).astype(np.float32)
    found = np.empty((len(shares), allowed.shape[1]), np.float32)
    found[:] = common[:, None]
    found[: mixture.n_phases] += np.float32(np.log(1 - mixed))
    found[mixture.n_phases :] += np.log(mixed / allowed.sum(axis=0)).astype(np.float32)
    found[mixture.n_phases :][~allowed] = _NEVER
    return found


def _within(mixed: float | None) -> float:
    """Return a part of the border pixels that leaves phases and mixtures possible."""
    return float(np.clip(mixed or 0.0, *_LEAST_AND_MOST_MIXED))


def _odds(part: float) -> float:
    return max(part, 1e-9) / max(1 - part, 1e-9)


def classify(
    pixels: Pixels, mixture: Mixture, evidence: np.ndarray, *, start: np.ndarray | None = None,
    sweeps: int | None = None,
) -> Classes:  # fmt: skip
    """Return the probabilities of what each pixel is.

    Parameters
    ----------
    pixels
        Their order, and their likelihoods under mixtures.
    mixture
        The phases.
    evidence
        (K, n) log likelihood of the spectra under the phases.
    start
        (K, n) probabilities of the phases that are nearly right; fewer sweeps are enough then.
    sweeps
        Over all pixels; by default as many as that takes.
    """
    grid = pixels.grid
    pure = _clamped(evidence + mixture.log_prior[:, None], pixels.given)
    sweeps = sweeps or (SWEEPS if start is None else _WARM_SWEEPS)
    found = posterior(pure, grid, mixture.strength, start=start, sweeps=sweeps)
    nothing = np.zeros((len(found), 0), np.float32), np.eye(len(found)), np.zeros((0, 0), bool)
    unmixed = Classes(found, np.zeros(0, int), *nothing)
    if mixture.mixed is None or not (len(found) > 1 and grid.coupled and mixture.strength):
        return unmixed
    both = pairs_of(len(found))
    labels = np.where(grid.used & (pixels.given < 0), found.argmax(axis=0), -1)
    allowed = _allowed(grid, labels, both)
    border = np.flatnonzero(allowed.any(axis=0))
    if not len(border):
        return unmixed
    allowed, shares = allowed[:, border], np.vstack([np.eye(len(found)), both])
    wide = _log_prior_of(mixture, shares, allowed)
    wide[: len(found)] += evidence[:, border]
    np.add(wide[len(found) :], pixels.of_mixtures(mixture, both, border), out=wide[len(found) :], where=allowed)
    of_border = mixed_posterior(wide, shares, grid, mixture.strength, pixels=border, pure=found)
    return Classes(found, border, of_border, shares, allowed)


def alike(spectra: np.ndarray) -> np.ndarray:
    """Return spectra of one intensity each, so that shares of them are shares of what was recorded.

    Parameters
    ----------
    spectra
        (K, G) of any scale.
    """
    sums = np.abs(spectra.sum(axis=1, keepdims=True))
    norm = np.linalg.norm(spectra, axis=1, keepdims=True)
    return spectra / np.where(sums > 0.1 * norm, sums, norm)


def _allowed(grid: Grid, labels: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Return (M - K, n) bool: the mixtures of two phases of which both occur near a pixel."""
    near = grid.meet(labels, both.shape[1])
    allowed = (both > 0).astype(np.float32) @ near.astype(np.float32) > 1.5
    allowed[:, labels < 0] = False
    return np.asarray(allowed)


def _clamped(evidence: np.ndarray, given: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(given >= 0)
    evidence[:, known] = _NEVER
    evidence[given[known], known] = 0
    return evidence


def split(
    data: Data, mixture: Mixture, classes: Classes, phase: int, *, inside: bool = False, wide: bool = False
) -> tuple[float, np.ndarray]:
    """Split the pixels of a phase in two, along the direction in which they differ most.

    Parameters
    ----------
    data, mixture
        The spectra and the phases.
    classes
        What the pixels are.
    phase
        Which one.
    inside
        Look only at pixels with no other phase near them: where borders are blurred, they differ most.
    wide
        Whether pixels are judged with more neighbours, as single spectra of few counts say nothing.

    Returns
    -------
    by how much the two describe these pixels better, as a log likelihood, and their (2, G) spectra
    """
    members = classes.weights[phase] > 0.5
    if inside:
        near = data.grid.meet(np.where(data.grid.used, classes.pure.argmax(axis=0), -1), mixture.n_phases)
        members &= near.sum(axis=0) == 1
    members = np.flatnonzero(members)
    if len(members) < (_LEAST_INSIDE if inside else 4):
        return -np.inf, np.empty((0, 0))
    values, law, one = data.values[members], data.law, mixture.spectra[phase : phase + 1]
    if inside:
        one = law.update(values, np.ones((1, len(members)), np.float32), one)
    rest = ((values - law.expected(values, one)) / law.deviation(one)).astype(np.float32)
    passes = _WIDE if wide else 1
    along = _direction(rest, members, data.grid, passes)
    side = along > _threshold(along)
    if side.all() or not side.any():
        return -np.inf, np.empty((0, 0))
    part = np.stack([~side, side]).astype(np.float32)
    two = np.repeat(one, 2, axis=0)
    for _ in range(_ALONE):
        two = law.update(values, part, two)
        evidence = law.evidence(values, two) + np.log(np.maximum(part.mean(axis=1, keepdims=True), 1e-3))
        # So many neighbours together decide as if they were of one phase.
        part = softmax(_WIDE_SUM * _smoothed(evidence, members, data.grid, passes) if wide else evidence.copy())
    best = (part * evidence).sum(axis=0) if wide else _log_sum(evidence)
    gain = best - law.evidence(values, one)[0]
    return float(gain.sum(dtype=np.float64)), two


def _smoothed(values: np.ndarray, members: np.ndarray, grid: Grid, passes: int) -> np.ndarray:
    """Return (K, m) values of some pixels averaged with those of their neighbours among them."""
    whole = np.zeros((len(values) + 1, len(grid.used)), np.float32)
    whole[:-1, members], whole[-1, members] = values, 1
    for _ in range(passes):
        whole = grid.smooth(whole)
    return whole[:-1, members] / np.maximum(whole[-1, members], np.float32(1e-6))


def _direction(rest: np.ndarray, members: np.ndarray, grid: Grid, passes: int) -> np.ndarray:
    """Return the (m,) projections on the direction in which (m, G) residuals of neighbours differ alike most."""

    def smooth(projected: np.ndarray) -> np.ndarray:
        return _smoothed(projected[None], members, grid, passes)[0]

    direction = rest[np.square(rest).sum(axis=1).argmax()].copy()
    for _ in range(_DIRECTIONS):
        direction /= max(float(np.linalg.norm(direction)), 1e-30)
        direction = smooth(rest @ direction) @ rest
    direction /= max(float(np.linalg.norm(direction)), 1e-30)
    return smooth(rest @ direction)


def _threshold(values: np.ndarray) -> float:
    """Return where values fall into two groups (Otsu)."""
    ordered = np.sort(values.astype(np.float64))
    n = np.arange(1, len(ordered))
    below = np.cumsum(ordered)[:-1]
    total = ordered.sum()
    between = (below / n - (total - below) / n[::-1]) ** 2 * n * n[::-1]
    best = int(between.argmax())
    return float(0.5 * (ordered[best] + ordered[best + 1]))


def _log(probability: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probability, np.float32(1e-30)))


def _log_sum(evidence: np.ndarray) -> np.ndarray:
    top = evidence.max(axis=0)
    return top + np.log(np.exp(evidence - top).sum(axis=0))


def held_out_scores(
    data: Data, mixture: Mixture, classes: Classes, validation: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Return (used,) -2 log likelihood of counts that were held out, up to a number per pixel.

    Parameters
    ----------
    data, mixture
        Spectra of the training fold, and phases fitted to them.
    classes
        What the pixels are, by these.
    validation, held
        (n, G) spectra of the other fold, and their (K, n) log likelihood under the phases.
    """
    found, border = _log_sum(_log(classes.pure) + held), classes.border
    if len(border):
        both = classes.shares[mixture.n_phases :] @ alike(mixture.spectra)
        more = data.law.held_out(data.values[border], validation[border], both)
        found[border] = _log_sum(_log(classes.mixed) + np.concatenate([held[:, border], more]))
    return -2 * found[data.grid.used].astype(np.float64)
