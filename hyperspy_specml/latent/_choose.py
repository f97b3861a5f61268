"""How many phases, and how strongly neighbours agree: by counts that the mixture has not seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent._distinct import distance_to_mixtures, lies_between, scores_along, varies_within
from hyperspy_specml.latent._grid import STRENGTHS
from hyperspy_specml.latent._latent_law import LatentLaw
from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._mixture import (
    FIRST_MIXED,
    Classes,
    Data,
    Mixture,
    alike,
    classify,
    fit_classes,
    held_out_scores,
    split,
)
from hyperspy_specml.progress import STOPPED, Progress
from hyperspy_specml.statistics import PoissonNoise, choose_rank, paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import RankCurve

# Strength of the Potts prior that fits begin with.
_FIRST_STRENGTH = 0.4
# Iterations of a fit that only compares, of one that goes on, after its strength has changed, and with mixtures.
_BRIEF_STEPS, _STEPS, _MORE_STEPS, _MIXED_STEPS = 5, 10, 5, 3
# Times that the strength and the spectra are found from each other.
_ROUNDS = 3
# Parts of the time in which phases are added, and in which some are left out again; in the rest all counts choose.
_GROWING, _PRUNING = 0.6, 0.2
# Kinds of splits of a mixture, and how many of each are carried out: those that alone gain most.
_TRIED = 6
_KINDS: tuple[tuple[dict[str, bool], int], ...] = (({}, 2), ({"inside": True}, 2), ({"wide": True}, 2))
# Numbers tried after the best one, and the largest.
_PATIENCE = 2
MOST_PHASES = 12
# Standard errors by which a phase less is clearly worse.
_CLEAR = 2.0
# Relative distance from mixtures of the others below which a phase that lies between them is none: spectra of one
# phase differ by as much with thickness and absorption.
_LEAST_DISTANCE = 0.1
# The same of latents, relative to the distance between the two others: where spectra bend, mixtures do, too.
_LEAST_OFF_LINE = 0.25
# Part of what all phases gain over one, above which a phase is kept although it is such a mixture: without borders and
# slopes of particles 1.7 % are lost at most, without grains of a mean composition 6.7 % at least.
_KEPT = 0.035
# Part of the pixels of a phase that are that phase alone, below which it is none, and the number of phases from which
# no more are added where none has so much: measured .6 at least where there are phases, in grains with borders over 3
# pixels .78, and .1 to .4 in a crystal whose columns are resolved, where any number of "phases" describes them better.
_LEAST_PURE, _SMEARED = 0.5, 4
# Phases that are left out for a trial, and phases near one that it may go over into.
_LEFT_OUT, _NEAREST = 3, 2
# Pairs of folds in which all counts choose, and the address of their random numbers.
_CROSSED, _CROSSED_STREAM = 5, 17
# Agreement of neighbours beyond chance from which a map has an order, 1 where they are always alike.
_LEAST_AGREEMENT = 0.1


@dataclass(frozen=True, eq=False)
class Folds:
    """Spectra of two folds of the same pixels.

    Attributes
    ----------
    data
        The training fold.
    validation
        (n, G) spectra of the fold that chooses.
    """

    data: Data
    validation: np.ndarray = field(repr=False)

    def crossed(self, seed: int) -> list[Folds]:
        """Return the same counts as several pairs of folds: each count is once in a fold that chooses."""
        whole = self.data.values + self.validation
        shares, pixels = (1 / _CROSSED,) * _CROSSED, np.arange(len(whole))
        # Random numbers of their own: those of the first split say which counts are left here.
        parts = PoissonNoise().split(whole, pixels, shares, seed=seed, stream=_CROSSED_STREAM)
        return [Folds(replace(self.data, values=whole - part), part.astype(np.float32)) for part in parts]


@dataclass(frozen=True, eq=False)
class Choice:
    """The mixture that was chosen, and why.

    Attributes
    ----------
    fits
        Mixtures by number of phases, with what the pixels are by each of them.
    curve
        Their held-out scores, and the number that was chosen.
    merged
        Why phases that held-out counts alone would keep are none: "mixture" of others, "variation" within one, or
        "smeared", which are hardly anywhere alone in a pixel.
    interrupted
        Whether the user ended the search.
    all_counts
        Whether the last phase was found by all counts, each held out once, as one fold could not tell.
    """

    fits: dict[int, tuple[Mixture, Classes]] = field(repr=False)
    curve: RankCurve
    merged: tuple[str, ...]
    interrupted: bool
    all_counts: bool = False

    @property
    def chosen(self) -> Mixture:
        """The mixture of the chosen number of phases."""
        return self.fits[self.curve.chosen][0]

    @property
    def classes(self) -> Classes:
        """What the pixels are by it."""
        return self.fits[self.curve.chosen][1]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of phases that were fitted."""
        return tuple(self.fits)

    def with_number(self, n_phases: int) -> Choice:
        """Return the choice with another of its numbers chosen."""
        return replace(self, curve=replace(self.curve, chosen=n_phases), all_counts=False)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A mixture, what the pixels are by it, and their scores on the validation fold."""

    mixture: Mixture
    classes: Classes
    scores: np.ndarray

    @property
    def score(self) -> float:
        return float(self.scores.mean())

    @property
    def n_phases(self) -> int:
        return self.mixture.n_phases


def one_phase(data: Data, *, mixed: bool) -> Mixture:
    """Return the mixture of a single phase."""
    weights = data.grid.used[None].astype(np.float32)
    spectra = data.law.update(data.values, weights, data.values.mean(axis=0, keepdims=True).astype(np.float64))
    strength = _FIRST_STRENGTH if data.grid.coupled else 0.0
    return Mixture(spectra, np.ones(1), strength, FIRST_MIXED if mixed else None)


def choose(folds: Folds, start: Mixture, run: Run, *, n_phases: int | None) -> Choice:
    """Grow a mixture phase by phase as far as held-out counts support it, then leave out what is no phase.

    Parameters
    ----------
    folds
        Training and validation fold.
    start
        Mixture to begin with.
    run
        Progress.
    n_phases
        Where to stop; None leaves it to the validation fold.
    """
    found: dict[int, _Fitted] = {}
    merged: list[str] = []
    interrupted = all_counts = False
    try:
        best = _grow(folds, start, run, found, n_phases)
        if n_phases is None:
            best, by_counts = _prune(folds, best, run, found, merged)
            if by_counts and (more := _by_all_counts(folds, best, found, run)):
                best, all_counts = more, True
                found[more.n_phases] = more
    except STOPPED:
        if not found:
            raise
        interrupted, best = True, _smallest(found)
    numbers = sorted(found)
    curve = choose_rank(np.array(numbers), np.array([found[k].scores for k in numbers]), "held-out counts")
    curve = replace(curve, chosen=best.n_phases)
    return Choice(
        {k: (found[k].mixture, found[k].classes) for k in numbers}, curve, tuple(merged), interrupted, all_counts
    )


def _grow(folds: Folds, start: Mixture, run: Run, found: dict[int, _Fitted], n_phases: int | None) -> _Fitted:
    """Add phases while that makes held-out counts likelier; return the best mixture, or that of `n_phases`."""
    most, last = n_phases or max(MOST_PHASES, start.n_phases), None
    while last is None or last.n_phases < most:
        with run.progress.enter(f"Fit {last.n_phases + 1 if last else start.n_phases} phases", _GROWING / most):
            grown = _fitted(folds, start, run.progress) if last is None else _one_more(folds, last, run.progress)
        if grown is None:
            break  # nothing is left to be split
        last = found[grown.n_phases] = grown
        run.progress.record("phases", last.n_phases, last.score)
        if n_phases is None and last.n_phases - _smallest(found).n_phases >= _PATIENCE:
            break
        if n_phases is None and last.n_phases >= _SMEARED and _pure(last).max() < _LEAST_PURE:
            break
    assert last is not None
    return last if n_phases else _smallest(found)


def _smallest(found: dict[int, _Fitted]) -> _Fitted:
    return min(found.values(), key=lambda one: one.score)


def _one_more(folds: Folds, last: _Fitted, progress: Progress) -> _Fitted | None:
    """Return the fitted mixture of one phase more: the likeliest after few iterations of several splits."""
    mixture = last.mixture
    tried = _proposed(folds.data, mixture, last.classes)
    if not tried:
        return None
    trials = []
    for one in tried:
        trials.append(_brief(folds, one))
        progress.advance(0.5 * len(trials) / len(tried))
    return _fitted(folds, min(trials, key=lambda trial: trial[1])[0], progress)


def _proposed(data: Data, mixture: Mixture, classes: Classes) -> list[Mixture]:
    """Return mixtures of one phase more: the splits that alone gain most, of each kind, and what known phases hold."""
    kinds = _KINDS if data.grid.coupled else (({}, _TRIED),)
    found = []
    for how, most in kinds:
        splits = [(*split(data, mixture, classes, k, **how), k) for k in range(mixture.n_fixed, mixture.n_phases)]
        splits = sorted((one for one in splits if np.isfinite(one[0])), key=lambda one: -one[0])
        found += [_with_split(mixture, two, k) for _, two, k in splits[:most]]
    return found + [_with_own(data, mixture, classes, k) for k in range(mixture.n_fixed)]


def _prune(folds: Folds, best: _Fitted, run: Run, found: dict[int, _Fitted], merged: list[str]) -> tuple[_Fitted, bool]:
    """Leave out one phase after the other as long as that is not clearly worse, or what is left out is no phase.

    Returns
    -------
    the mixture that is left, and whether it was held-out counts that spoke against one phase more
    """
    by_counts = True
    share = _PRUNING / best.n_phases
    while best.n_phases > max(1, best.mixture.n_fixed):
        with run.progress.enter(f"Fit {best.n_phases - 1} phases", share):
            worst, before = max(one.score for one in found.values()), len(merged)
            fewer = _without_one(folds, best, found, merged, run.progress, most=_KEPT * (worst - best.score))
        if fewer is None:
            break
        best, by_counts = fewer, len(merged) == before
        found[fewer.n_phases] = fewer
        run.progress.record("phases", best.n_phases, best.score)
    return best, by_counts


def _by_all_counts(folds: Folds, best: _Fitted, found: dict[int, _Fitted], run: Run) -> _Fitted | None:
    """Return the fitted mixture of one phase more, where the validation fold cannot tell and all counts can."""
    more = found.get(best.n_phases + 1)
    if more is None or not isinstance(folds.data.law, MultinomialLaw) or _clearly_worse(more, best):
        return None
    with run.progress.enter("Compare with all counts", 1 - _GROWING - _PRUNING):
        parts, fewer, grown = folds.crossed(run.seed), [], []
        for done, part in enumerate(parts):
            fewer.append(_fitted(part, best.mixture, Progress(), warm=True))
            one = _one_more(part, fewer[-1], Progress())
            if one is None:
                return None
            grown.append(one)
            run.progress.advance(0.8 * (done + 1) / len(parts))
        worse = paired(np.sum([one.scores for one in fewer], axis=0), np.sum([one.scores for one in grown], axis=0))
        if worse.difference <= _CLEAR * worse.standard_error:
            return None
        for one in grown:
            more = min(more, _fitted(folds, one.mixture, Progress(), warm=True), key=lambda tried: tried.score)
            run.progress.advance(0.9)
        most = _KEPT * (max(one.score for one in found.values()) - more.score)
        far = _distances(more, folds.data)
        if _no_phase(folds, more, far, run.progress, most=most) or _newest_goes_over(parts, grown):
            return None
    return more


def _without_one(
    folds: Folds, best: _Fitted, found: dict[int, _Fitted], merged: list[str], progress: Progress, *, most: float
) -> _Fitted | None:
    """Return the fitted mixture without the least distinct phase; None where all of them are distinct.

    Parameters
    ----------
    folds, best
        Data, and mixture.
    found
        Mixtures by number of phases.
    merged
        Reasons so far.
    progress
        Of the stage.
    most
        By how much the score may be worse without a mixture of others.
    """
    mixture, data = best.mixture, folds.data
    far = _distances(best, data)
    for k in sorted(far, key=lambda k: far[k][0] ** 2 * mixture.prior[k])[:_LEFT_OUT]:
        fewer = _fitted(folds, _left_out(mixture, k), progress, warm=True)
        if not _clearly_worse(fewer, best):
            return fewer
    # What was grown has other phases; it may be better than what is left where several share a border.
    grown = found.get(best.n_phases - 1)
    if grown and not _clearly_worse(grown, best):
        return grown
    if no_phase := _no_phase(folds, best, far, progress, most=most):
        merged.append(no_phase[0])
        return no_phase[1]
    for k in sorted(far, key=lambda k: far[k][0]):
        for other in _nearest(mixture, k, data):
            if _go_over([(folds, best, (k, int(other)))]):
                merged.append("variation")
                return _fitted(folds, _joined(mixture, k, int(other), data), progress, warm=True)
    return None


def _no_phase(
    folds: Folds, best: _Fitted, far: dict[int, tuple[float, np.ndarray]], progress: Progress, *, most: float
) -> tuple[str, _Fitted] | None:
    """Return why one of the phases is none, and the fitted mixture without it; None where all of them are.

    Parameters
    ----------
    folds, best, progress, most
        See `_without_one`.
    far
        See `_distances`.
    """
    mixture, data = best.mixture, folds.data
    least = _LEAST_OFF_LINE if isinstance(data.law, LatentLaw) else _LEAST_DISTANCE
    pure = _pure(best)
    for k in sorted(far, key=lambda k: pure[k])[:1]:
        if pure[k] < _LEAST_PURE:
            return "smeared", _fitted(folds, _left_out(mixture, k), progress, warm=True)
    labels = np.where(data.grid.used, best.classes.pure.argmax(axis=0), -1)
    for k in sorted(far, key=lambda k: far[k][0]):
        if far[k][0] < least and lies_between(labels, data.grid, k, far[k][1]):
            fewer = _fitted(folds, _left_out(mixture, k), progress, warm=True)
            if fewer.score - best.score <= most:
                return "mixture", fewer
    return None


def _newest_goes_over(parts: Sequence[Folds], grown: Sequence[_Fitted]) -> bool:
    """Return whether the phase that was added last goes over into the one that it was split from, by all folds."""
    newest, fits = grown[0].n_phases - 1, []
    for part, one in zip(parts, grown, strict=True):
        fits.append((part, one, (newest, int(_nearest(one.mixture, newest, part.data)[0]))))
    return _go_over(fits)


def _clearly_worse(one: _Fitted, other: _Fitted) -> bool:
    worse = paired(one.scores, other.scores)
    return worse.difference > _CLEAR * worse.standard_error


def _pure(one: _Fitted) -> np.ndarray:
    """Return the (K,) parts of the phases that are pixels of one phase alone; 1 where a phase has none at all."""
    alone, all_of = one.classes.weights.sum(axis=1), one.classes.phase_shares.sum(axis=1)
    return np.divide(alone, all_of, out=np.ones(len(alone)), where=all_of > 0)


def _left_out(mixture: Mixture, phase: int) -> Mixture:
    keep = np.arange(mixture.n_phases) != phase
    return replace(mixture, spectra=mixture.spectra[keep], prior=mixture.prior[keep])


def _distances(one: _Fitted, data: Data) -> dict[int, tuple[float, np.ndarray]]:
    """Return how far each phase that is not given is from mixtures of the others, and the shares of the nearest."""
    return {k: _distance(one, k, data) for k in range(one.mixture.n_fixed, one.n_phases)}


def _distance(one: _Fitted, phase: int, data: Data) -> tuple[float, np.ndarray]:
    spectra = one.mixture.spectra
    if isinstance(data.law, LatentLaw):
        return data.law.distance_to_mixtures(spectra, phase)
    n_counts = float(one.classes.weights[phase] @ data.values.sum(axis=1))
    return distance_to_mixtures(spectra, phase, data, n_counts=max(n_counts, 1.0))


def _nearest(mixture: Mixture, phase: int, data: Data) -> np.ndarray:
    if isinstance(data.law, LatentLaw):
        unit, scale = mixture.spectra[:, : data.law.n_latents], np.ones(1)
    else:
        unit = alike(mixture.spectra)
        scale = 1 / np.sqrt(np.maximum(np.abs(unit).mean(axis=0), 1e-30))
    apart = np.linalg.norm((unit - unit[phase]) * scale, axis=1)
    order = np.argsort(apart)
    return order[order != phase][:_NEAREST]


def _go_over(fits: Sequence[tuple[Folds, _Fitted, tuple[int, int]]]) -> bool:
    """Return whether two phases are ends of a variation within one, by fits of all folds, each with these phases."""
    folds, best, (one, other) = fits[0]
    if isinstance(folds.data.law, LatentLaw):
        return folds.data.law.go_over(best.mixture.spectra, one, other)
    if not folds.data.grid.coupled:
        return False
    scores = []
    for part, fitted, (one, other) in fits:
        labels = fitted.classes.pure.argmax(axis=0)
        sides = np.where(labels == other, 1, np.where(labels == one, 0, -1))
        sides[~part.data.grid.used] = -1
        scores.append(scores_along(part.data, part.validation, alike(fitted.mixture.spectra)[[one, other]], sides))
    return varies_within(np.sum(scores, axis=0))


def _joined(mixture: Mixture, one: int, other: int, data: Data) -> Mixture:
    """Return the mixture with two phases in one; a known one stays as it is."""
    spectra, prior, keep = mixture.spectra.copy(), mixture.prior.copy(), np.arange(mixture.n_phases) != one
    if isinstance(data.law, LatentLaw):
        spectra[other] = data.law.joined(spectra, prior, one, other)
    elif other >= mixture.n_fixed:
        unit = alike(spectra)
        spectra[other] = (prior[one] * unit[one] + prior[other] * unit[other]) * np.abs(spectra[other]).sum()
    prior[other] += prior[one]
    return replace(mixture, spectra=spectra[keep], prior=prior[keep])


def _brief(folds: Folds, mixture: Mixture) -> tuple[Mixture, float]:
    """Return the mixture after few iterations, and its mean score on the validation fold."""
    mixed, first = mixture.mixed, _FIRST_STRENGTH if folds.data.grid.coupled else 0.0
    found, classes = fit_classes(folds.data, replace(mixture, strength=first, mixed=None), steps=_BRIEF_STEPS)
    found = replace(found, mixed=mixed)
    evidence, held = _evidence(folds, found)
    classes = classify(folds.data, found, evidence, start=classes.pure)
    return found, float(held_out_scores(folds.data, found, classes, folds.validation, held).mean())


def _with_split(mixture: Mixture, two: np.ndarray, phase: int) -> Mixture:
    spectra = np.vstack([mixture.spectra, two[1:]])
    spectra[phase] = two[0]
    prior = np.append(mixture.prior, 0.5 * mixture.prior[phase])
    prior[phase] *= 0.5
    return replace(mixture, spectra=spectra, prior=prior)


def _with_own(data: Data, mixture: Mixture, classes: Classes, known: int) -> Mixture:
    """Return the mixture with a phase of what the pixels of a known one are, which itself stays as it is."""
    weights = classes.weights[known : known + 1]
    own = data.law.update(data.values, weights, mixture.spectra[known : known + 1])
    prior = np.append(mixture.prior, mixture.prior[known])
    prior[known] = 0.1 * prior[known]
    return replace(mixture, spectra=np.vstack([mixture.spectra, own]), prior=prior)


def _fitted(folds: Folds, mixture: Mixture, progress: Progress, *, warm: bool = False) -> _Fitted:
    """Return the fitted mixture with the best strength, and its scores on the validation fold.

    Parameters
    ----------
    folds
        Training and validation fold.
    mixture
        To begin with.
    progress
        Of the stage.
    warm
        Whether its phases are nearly right: then pixels may be mixtures from the beginning.
    """
    data, mixed = folds.data, mixture.mixed
    if not warm:  # a strong prior lets a new phase vanish, and so do mixtures
        first = _FIRST_STRENGTH if data.grid.coupled else 0.0
        mixture = replace(mixture, strength=first, mixed=None)
    mixture, classes = fit_classes(data, mixture, steps=_MORE_STEPS if warm else _STEPS)
    for done in range(_ROUNDS):
        progress.advance(0.6 + 0.1 * done)
        strength = best_strength(folds, mixture)
        if strength == mixture.strength:
            break
        mixture, classes = fit_classes(data, replace(mixture, strength=strength), steps=_MORE_STEPS, start=classes.pure)
    progress.advance(0.9)
    if mixed is not None:
        mixed = mixture.mixed or mixed
        mixture, classes = fit_classes(data, replace(mixture, mixed=mixed), steps=_MIXED_STEPS, start=classes.pure)
    evidence, held = _evidence(folds, mixture)
    classes = classify(data, mixture, evidence, start=classes.pure)
    return _Fitted(mixture, classes, held_out_scores(data, mixture, classes, folds.validation, held))


def best_strength(folds: Folds, mixture: Mixture) -> float:
    """Return the strength of the Potts prior that predicts the validation fold best.

    Parameters
    ----------
    folds
        Training and validation fold.
    mixture
        Phases fitted to the training fold.
    """
    data = folds.data
    if not data.grid.coupled or mixture.n_phases == 1:
        return mixture.strength
    evidence, held = _evidence(folds, mixture)
    scores: list[np.ndarray] = []
    start: np.ndarray | None = None
    for strength in STRENGTHS:
        one = replace(mixture, strength=strength, mixed=None)
        classes = classify(data, one, evidence, start=start)
        start = classes.pure
        scores.append(held_out_scores(data, one, classes, folds.validation, held))
    curve = choose_rank(np.arange(len(STRENGTHS)), np.array(scores), "held-out counts")
    assert start is not None
    if curve.chosen == 0 and data.grid.agreement(start) < _LEAST_AGREEMENT:
        return 0.0  # the order of the spectra tells nothing
    return STRENGTHS[1 + int(np.argmin(curve.scores[1:]))]


def _evidence(folds: Folds, mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    data = folds.data
    held = data.law.held_out(data.values, folds.validation, mixture.spectra)
    return data.law.evidence(data.values, mixture.spectra), held
