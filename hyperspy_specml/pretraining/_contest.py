"""Which of the methods to believe, and how far: cross-validation, and a blend of those that do well on labels left out.

The winner of a cross-validation on a hundred labels is often not the best: differences are smaller than their errors.
A blend whose shares make the labels that were left out most likely is, with enough of them, at least as good as the
best of its members, and loses little by a wrong share. Of few labels all members share alike, as if each had predicted
two labels before.

Adapters take a training for each fold, all others together a fraction of that: they go through the folds last, and no
further than it takes to see that they are behind.

References
----------
L. Breiman, "Stacked regressions", Mach. Learn. 24 (1996) 49; M. J. van der Laan, E. C. Polley, A. E. Hubbard, "Super
learner", Stat. Appl. Genet. Mol. Biol. 6 (2007) 25; O. Maron, A. W. Moore, "Hoeffding races", Adv. Neural Inf. Process.
Syst. 6 (1994) 59.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import nnls
from scipy.special import log_softmax, logsumexp

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.pretraining._errors import Errors
from hyperspy_specml.pretraining._predict import CHEAP, Tuned, tune

if TYPE_CHECKING:
    from hyperspy_specml.pretraining._encoder import Inputs
    from hyperspy_specml.pretraining._predict import Task
    from hyperspy_specml.progress import Progress

# Folds of the cross-validation.
_FOLDS = 5
# Share below which a method is left out of the blend.
_LEAST = 0.05
# Iterations of the shares of classes: each makes the left-out labels more likely.
_ITERATIONS = 200
# Labels that each method is taken to have predicted before; from one to four, measured sets do not tell a difference.
_BEFORE = 2.0
# Standard errors that adapters may be behind by.
_BEHIND = 2.0


@dataclass(frozen=True, eq=False)
class Blend:
    """Methods that predict together.

    Attributes
    ----------
    members
        The methods.
    shares
        Of each, in sum one.
    """

    members: tuple[Tuned, ...]
    shares: tuple[float, ...] = (1.0,)

    @property
    def method(self) -> str:
        """Names of the methods, the largest share first."""
        order = np.argsort([-share for share in self.shares], kind="stable")
        return " + ".join(self.members[k].method for k in order)

    @property
    def n_outputs(self) -> int:
        """Number of classes, or 1."""
        return self.members[0].head.constant.size

    def __call__(self, laid: np.ndarray, inputs: Inputs, *, classes: bool) -> np.ndarray:
        """Return (n, C) logarithms of probabilities, or (n, 1) values, of (n, E) spectra on the grid."""
        latents: dict[int, np.ndarray] = {}
        found = []
        for one in self.members:
            if one.encoder is None:
                found.append(one(laid, inputs))
                continue
            if id(one.encoder) not in latents:  # several read the same
                latents[id(one.encoder)] = one.encoder.latents(laid, inputs)
            found.append(one.on_latents(latents[id(one.encoder)]))
        return _mixed(np.stack(found), np.array(self.shares), classes=classes)


def _mixed(found: np.ndarray, shares: np.ndarray, *, classes: bool) -> np.ndarray:
    """Return the mixture of (M, n, C) logits, as logarithms of probabilities, or of (M, n, 1) values."""
    if not classes:
        return np.einsum("m,mnc->nc", shares, found)
    return logsumexp(log_softmax(found, axis=2), axis=0, b=shares[:, None, None])


@dataclass(frozen=True)
class Contest:
    """Score of a method in a cross-validation.

    Attributes
    ----------
    method
        The method.
    score, error
        Mean balanced accuracy or R2, and its standard error over the folds.
    share
        Of the method in the blend.
    """

    method: str
    score: float
    error: float
    share: float = 0.0


def contest(task: Task, progress: Progress) -> tuple[tuple[Contest, ...], Blend, Errors | None]:
    """Cross-validate the methods on the same folds, and blend them.

    Parameters
    ----------
    task
        The spectra and their labels.
    progress
        A stage for each method.

    Returns
    -------
    the table, the methods of the blend fitted to all labels, and its errors of left-out values; of classes none

    Raises
    ------
    OptionError
        There are too few labels.
    """
    folds = _folds(task.truth, task.n_classes, task.seed)
    if not folds:
        raise OptionError(
            "fine_tune(method='auto') needs two labelled spectra of every class, or six values, to cross-validate. "
            "Label more, or say the method, method='linear'."
        )
    with progress.enter("Encode", 0.05):
        task = task.encoded()
    names, tried = (*CHEAP, *_physical(task), "linear"), []
    for name in names:
        with progress.enter(f"Try {name}", 0.2 / len(names)):
            tried.append(_left_out(name, task, folds))
    losses = [_losses(found[0], task) for found in tried]
    with progress.enter("Try lora", 0.4):
        tried.append(_left_out("lora", task, folds, min(losses, key=np.mean)))
    left_out = np.stack(tried)
    raced = np.isfinite(left_out).all(axis=(1, 2, 3))
    shares = np.zeros(len(left_out))
    shares[raced] = blend_shares(left_out[raced, 0], task.truth, task.n_classes)
    scores = [_scores(found[0], task, folds) for found in left_out]
    table = tuple(map(Contest, (*names, "lora"), *zip(*scores, strict=True), map(float, shares)))
    chosen = [one for one in table if one.share]
    with progress.enter("Learn from all labels"):
        blend = Blend(tuple(tune(one.method, task) for one in chosen), tuple(one.share for one in chosen))
    if task.n_classes:
        return table, blend, None
    errors = np.einsum("m,mln->ln", shares[raced], left_out[raced, ..., 0]) - task.truth
    return table, blend, Errors.of(task.counts, errors)


def errors_of(method: str, task: Task) -> Errors | None:
    """Return the errors of values by one method, of those left out in five folds; None of classes, or of one value."""
    order = np.random.default_rng(task.seed).permutation(len(task.truth))
    tests = np.array_split(order, min(_FOLDS, len(order)))
    if task.n_classes or len(order) < 3:
        return None
    found = _left_out(method, task, [(np.setdiff1d(order, test), test) for test in tests])
    return Errors.of(task.counts, found[..., 0] - task.truth)


def _physical(task: Task) -> tuple[str, ...]:
    """Return the methods that take what the encoder knows of simulated spectra."""
    encoder = task.unlabelled.encoder
    likelihood = ("likelihood",) if task.n_classes and len(encoder.pure_on(task.unlabelled.inputs.grid)) else ()
    return likelihood + (("parameters",) if encoder.readout else ())


def _left_out(name: str, task: Task, folds: list[Any], best: np.ndarray | None = None) -> np.ndarray:
    """Return (1 + L, n, C) logits or (1 + L, n, 1) values of labels that were left out, with all and with fewer counts.

    They are NaN from where a method fell behind.

    Parameters
    ----------
    name, task, folds
        The method, and what it is fitted to.
    best
        (n,) losses that it must keep up with.
    """
    found = np.full((1 + len(task.fewer), len(task.truth), task.n_classes or 1), np.nan)
    for train, test in folds:
        found[:, test] = task.of(test).predicted(tune(name, task.of(train)))
        if best is not None:
            behind = _losses(found[0], task) - best
            behind = behind[np.isfinite(behind)]
            if behind.mean() > _BEHIND * behind.std() / np.sqrt(len(behind)):
                break
    return found


def _losses(found: np.ndarray, task: Task) -> np.ndarray:
    """Return the (n,) negative log likelihoods of the classes, or the squared errors."""
    if task.n_classes:
        return -log_softmax(found, axis=1)[np.arange(len(found)), task.truth]
    return (found[:, 0] - task.truth) ** 2


def _scores(found: np.ndarray, task: Task, folds: list[Any]) -> tuple[float, float]:
    """Return the mean balanced accuracy, or R2, of the folds that were predicted, and its standard error."""
    predicted = [test for _, test in folds if np.isfinite(found[test]).all()]
    scores = [_score(found[test], task.truth[test], task.truth, task.n_classes) for test in predicted]
    return float(np.mean(scores)), float(np.std(scores) / np.sqrt(len(scores)))


def blend_shares(left_out: np.ndarray, truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the (M,) shares, in sum one, of which a blend predicts labels that were left out best.

    Parameters
    ----------
    left_out
        (M, n, C) logits, or (M, n, 1) values, of labels that each method had not seen.
    truth
        (n,) classes, or values.
    n_classes
        0 for values.
    """
    shares = _likeliest(left_out, truth) if n_classes else _least_squares(left_out[..., 0], truth)
    shares = np.where(shares >= min(_LEAST, shares.max()), shares, 0.0)
    return shares / shares.sum()


def _likeliest(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the most probable shares, all classes counting alike, by expectation maximisation."""
    probability = np.exp(log_softmax(logits, axis=2)[:, np.arange(len(truth)), truth])  # (M, n)
    weight = (1 / np.bincount(truth))[truth] / len(np.unique(truth))
    shares = np.full(len(logits), 1 / len(logits))
    for _ in range(_ITERATIONS):
        mixed = shares[:, None] * np.maximum(probability, 1e-12)
        shares = (mixed / mixed.sum(axis=0)) @ weight + _BEFORE / len(truth)
        shares /= shares.sum()
    return shares


def _least_squares(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the shares of smallest squared error: that shares add up to one weighs more than all labels."""
    heavy = 1e4 * np.sqrt(np.mean(truth**2) + np.mean(values**2)) * np.sqrt(len(truth))
    columns = np.vstack([values.T, np.full(len(values), heavy)])
    return nnls(columns, np.append(truth, heavy))[0]


def _folds(truth: np.ndarray, n_classes: int, seed: int) -> list[Any]:
    from sklearn.model_selection import KFold, StratifiedKFold

    smallest = int(np.bincount(truth, minlength=n_classes).min()) if n_classes else len(truth) // 3
    if smallest < 2:
        return []
    folds = (StratifiedKFold if n_classes else KFold)(min(_FOLDS, smallest), shuffle=True, random_state=seed)
    return list(folds.split(truth, truth))


def _score(found: np.ndarray, truth: np.ndarray, every: np.ndarray, n_classes: int) -> float:
    """Return the balanced accuracy, or R2 against the variance of all labels."""
    if n_classes:
        right = found.argmax(axis=1) == truth
        return float(np.mean([right[truth == c].mean() for c in np.unique(truth)]))
    return float(1 - ((found[:, 0] - truth) ** 2).mean() / max(float(every.var()), 1e-30))
