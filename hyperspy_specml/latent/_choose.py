"""How many phases, and how strongly neighbours agree: by counts that the mixture has not seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent._mixture import Data, Mixture, classify, fit, held_out_scores, split
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.statistics import choose_rank

if TYPE_CHECKING:
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import RankCurve

# Strengths of the Potts prior that are tried, and the one that fits begin with.
STRENGTHS = (0.0, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 3.0)
_FIRST_STRENGTH = 0.4
# Iterations of a fit that only compares, of one that goes on, after its strength has changed, and with mixtures.
_BRIEF_STEPS, _STEPS, _MORE_STEPS, _MIXED_STEPS = 5, 10, 5, 3
# Times that the strength and the spectra are found from each other.
_ROUNDS = 3
# Splits of a mixture that are carried out: those that alone gain most.
_TRIED = 4
# Numbers tried after the best one, and the largest.
_PATIENCE = 2
MOST_PHASES = 12
# Standard errors by which a number of phases is clearly worse than another.
_CLEAR = 2.0
# Agreement of neighbours beyond chance from which a map has an order, 1 where they are always alike.
_LEAST_AGREEMENT = 0.1
_MIXED = 0.3  # part of the border pixels that are mixtures, to begin with


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


@dataclass(frozen=True, eq=False)
class Choice:
    """Mixtures of rising number of phases.

    Attributes
    ----------
    mixtures
        One per number.
    curve
        Their held-out scores and the number that these choose.
    interrupted
        Whether the user ended the search.
    """

    mixtures: tuple[Mixture, ...]
    curve: RankCurve
    interrupted: bool

    @property
    def chosen(self) -> Mixture:
        """The mixture of the chosen number of phases."""
        return next(m for m in self.mixtures if m.n_phases == self.curve.chosen)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of phases that were fitted."""
        return tuple(mixture.n_phases for mixture in self.mixtures)

    def with_number(self, n_phases: int) -> Choice:
        """Return the choice with another of its numbers chosen."""
        return replace(self, curve=replace(self.curve, chosen=n_phases))


def one_phase(data: Data, *, mixed: bool) -> Mixture:
    """Return the mixture of a single phase."""
    weights = data.grid.used[None].astype(np.float32)
    spectra = data.law.update(data.values, weights, data.values.mean(axis=0, keepdims=True).astype(np.float64))
    strength = _FIRST_STRENGTH if data.grid.coupled else 0.0
    return Mixture(spectra, np.ones(1), strength, _MIXED if mixed else None)


def choose(folds: Folds, start: Mixture, run: Run, *, n_phases: int | None) -> Choice:
    """Grow a mixture phase by phase, as far as held-out counts support it.

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
    most = n_phases or max(MOST_PHASES, start.n_phases)
    mixtures: list[Mixture] = []
    scores: list[np.ndarray] = []
    interrupted, weights = False, None
    try:
        while not mixtures or mixtures[-1].n_phases < most:
            before = start if not mixtures else mixtures[-1]
            with run.progress.enter(f"Fit {before.n_phases + bool(mixtures)} phases", 1 / most):
                mixture, weights, score = _next(folds, before, weights, run.progress)
            if mixtures and mixture.n_phases == mixtures[-1].n_phases:
                break  # nothing is left to be split
            mixtures.append(mixture)
            scores.append(score)
            run.progress.record("phases", mixture.n_phases, float(score.mean()))
            best = int(np.argmin([one.mean() for one in scores]))
            if n_phases is None and len(scores) - 1 - best >= _PATIENCE:
                break
    except STOPPED:
        if not mixtures:
            raise
        interrupted = True
    numbers = np.array([mixture.n_phases for mixture in mixtures])
    curve = _cautious(choose_rank(numbers, np.array(scores), "held-out counts"))
    if n_phases is not None and not interrupted:
        curve = replace(curve, chosen=mixtures[-1].n_phases)
    return Choice(tuple(mixtures), curve, interrupted)


def _cautious(curve: RankCurve) -> RankCurve:
    """Return the curve with the smallest number that is not clearly worse than the best of many tried."""
    good = curve.scores - curve.scores.min() <= _CLEAR * np.nan_to_num(curve.standard_errors)
    return replace(curve, chosen=int(curve.ranks[int(np.argmax(good))]))


def _next(
    folds: Folds, mixture: Mixture, weights: np.ndarray | None, progress: Progress
) -> tuple[Mixture, np.ndarray, np.ndarray]:
    """Return the fitted mixture of one phase more; without weights that of the same number."""
    if weights is None:
        return _fitted(folds, mixture, progress)
    splits = [(*split(folds.data, mixture, weights, k), k) for k in range(mixture.n_fixed, mixture.n_phases)]
    splits = sorted((one for one in splits if np.isfinite(one[0])), key=lambda one: -one[0])
    if not splits:
        return mixture, weights, np.empty(0)
    trials = []
    for _, two, phase in splits[:_TRIED]:
        trials.append(_brief(folds, _with_split(mixture, two, phase)))
        progress.advance(0.5 * len(trials) / _TRIED)
    return _fitted(folds, min(trials, key=lambda trial: trial[1])[0], progress)


def _brief(folds: Folds, mixture: Mixture) -> tuple[Mixture, float]:
    """Return the mixture after few iterations, and its mean score on the validation fold."""
    mixture = replace(mixture, strength=_FIRST_STRENGTH if folds.data.grid.coupled else 0.0)
    found, _ = fit(folds.data, replace(mixture, mixed=None), steps=_BRIEF_STEPS)
    evidence, held = _evidence(folds, found)
    classes = classify(folds.data, found, evidence)
    score = held_out_scores(folds.data, found, classes, folds.validation, held).mean()
    return replace(found, mixed=mixture.mixed), float(score)


def _with_split(mixture: Mixture, two: np.ndarray, phase: int) -> Mixture:
    spectra = np.vstack([mixture.spectra, two[1:]])
    spectra[phase] = two[0]
    prior = np.append(mixture.prior, 0.5 * mixture.prior[phase])
    prior[phase] *= 0.5
    return replace(mixture, spectra=spectra, prior=prior)


def _fitted(folds: Folds, mixture: Mixture, progress: Progress) -> tuple[Mixture, np.ndarray, np.ndarray]:
    """Return the fitted mixture with the best strength, its weights, and its scores on the validation fold."""
    data, mixed = folds.data, mixture.mixed
    first = _FIRST_STRENGTH if data.grid.coupled else 0.0  # a strong one lets a new phase vanish
    mixture, weights = fit(data, replace(mixture, strength=first, mixed=None), steps=_STEPS)
    for done in range(_ROUNDS):
        progress.advance(0.6 + 0.1 * done)
        strength = best_strength(folds, mixture)
        if strength == mixture.strength:
            break
        mixture, weights = fit(data, replace(mixture, strength=strength), steps=_MORE_STEPS)
    progress.advance(0.9)
    if mixed is not None:
        mixture, weights = fit(data, replace(mixture, mixed=mixed), steps=_MIXED_STEPS)
    evidence, held = _evidence(folds, mixture)
    classes = classify(data, mixture, evidence)
    return mixture, weights, held_out_scores(data, mixture, classes, folds.validation, held)


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
