"""What a fit found out about itself, as data that prints as a table."""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from hyperspy_specml.decompose import Attempt, Candidate, Decomposition
    from hyperspy_specml.statistics import RankCurve

_CLEAR = 2  # standard errors that make a difference worth a word
_HEAD = ("candidate", "held-out deviance", "difference to PCA", "")


@dataclass(frozen=True)
class Candidate:
    """A model scored on counts that it has not seen.

    Attributes
    ----------
    name
        Architecture and number of components.
    score
        Mean deviance per spectrum on the test fold; smaller is better.
    difference, standard_error
        Mean and standard error of the paired difference to PCA of the same size, about the mean spectrum or
        not, whichever is better on the validation fold.
    validation_score
        The same score on the validation fold, which decides between candidates.
    """

    name: str
    score: float
    difference: float
    standard_error: float
    validation_score: float


@dataclass(frozen=True)
class Attempt:
    """One training of several.

    Attributes
    ----------
    name
        Where it started.
    score
        Held-out score that decides between attempts, smaller is better; NaN where the training diverged.
    collapsed
        Why it was dropped; empty for a sound one.
    """

    name: str
    score: float
    collapsed: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """The evidence behind a decomposition.

    Attributes
    ----------
    architecture, n_components
        What was fitted.
    candidates
        Name, score, difference to the baseline and its paired standard error, in deviance per spectrum on
        the test fold (15 % of the counts, which chose nothing); smaller is better. The scores belong to
        models fitted on 70 % of the counts; the returned ones were fitted on all. Last comes what the others
        are compared with: PCA of the same size, about the mean spectrum or not, as is better.
    chosen
        Name of the candidate with the best score on the validation fold.
    noise_model
        Name and parameters; for counts also ``fano``, the residuals' variance over their mean.
    hold_out
        "exact" (independent folds), "approximate" (equal in the first two moments) or "none" (the folds
        correlate; ``correlation`` says how much).
    correlation
        Correlation of the residuals of two halves of the data, 0 where the noise model holds.
    rank, baseline_rank
        Score against the number of components, with paired standard errors, for the architecture that chose
        it and for PCA; the same curve where K was not chosen by a network.
    scree, noise_edge
        All eigenvalues of the noise-whitened data, falling, and the largest one that noise alone makes.
    used
        Numbers of pixels and channels in each state, e.g. ``{"pixels": {"used": 6397, "empty": 3}, ...}``.
    n_sampled
        Spectra that the folds were made of.
    random_state
        Seed: the same one repeats the result.
    steps, step_scores, best_step, interrupted
        Training: score on the validation fold at steps, the step that was kept, and whether Ctrl-C ended it.
    seconds
        Time of the stages.
    attempts
        Starts of the training: name, score on the validation fold (for the simplex architecture with the pull
        on its endmembers), and why it counts as collapsed, or "".
    trained_on
        Title of the map that everything but ``used`` and ``seconds`` belongs to, where a model was applied to
        another one; else None.
    resampled_from
        The energy axis of the training in words, where the model was brought to the channels of another one;
        else None.
    smoothing
        Standard deviation, in channels, of the Gaussian along energy that the network's axes were made smooth
        with, because the validation fold liked it; 0 for principal axes as they are. The baseline has none.
    """

    architecture: str
    n_components: int
    candidates: tuple[Candidate, ...]
    chosen: str
    noise_model: dict[str, Any]
    hold_out: str
    correlation: float
    rank: RankCurve
    baseline_rank: RankCurve = field(repr=False)
    scree: np.ndarray = field(repr=False)
    noise_edge: float
    used: dict[str, dict[str, int]]
    n_sampled: int
    random_state: int
    steps: tuple[int, ...] = field(repr=False)
    step_scores: tuple[float, ...] = field(repr=False)
    best_step: int
    interrupted: bool
    seconds: dict[str, float]
    attempts: tuple[Attempt, ...] = ()
    trained_on: str | None = None
    resampled_from: str | None = None
    smoothing: float = 0.0

    @classmethod
    def of(cls, found: Decomposition) -> Report:
        """Collect the report of a fit.

        Parameters
        ----------
        found
            The fitted decomposition.
        """
        prepared = found.prepared
        return cls(
            architecture=found.model.architecture,
            n_components=found.model.n_components,
            candidates=found.candidates,
            chosen=min(found.candidates, key=lambda c: c.validation_score).name,
            noise_model=prepared.estimate.model.to_dict() | {"fano": prepared.estimate.fano},
            hold_out=prepared.hold_out,
            correlation=prepared.correlation,
            rank=found.rank,
            baseline_rank=prepared.rank,
            scree=prepared.axes.eigenvalues,
            noise_edge=prepared.edge,
            used=prepared.summary.counts(),
            n_sampled=len(prepared.summary.sample_pixels),
            random_state=prepared.seed,
            steps=found.steps,
            step_scores=found.step_scores,
            best_step=found.best_step,
            smoothing=found.width,
            interrupted=found.interrupted,
            seconds=found.seconds,
            attempts=found.attempts,
        )

    def __str__(self) -> str:
        """Return the table as text."""
        facts = self._facts()
        width = max(len(name) for name, _ in facts)
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines = [f"{name:<{width}}  {value}" for name, value in facts]
        lines.append("")
        lines += ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "", self.verdict()])

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        facts = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        head, *rows = (
            "<tr>" + "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in row) + "</tr>"
            for cell, row in [("th", _HEAD), *(("td", row) for row in self._rows())]
        )
        table = f"<table>{facts}</table><table>{head}{''.join(rows)}</table>"
        return f"{table}<p>{html.escape(self.verdict())}</p>"

    def verdict(self) -> str:
        """Say in one sentence how the model compares with PCA."""
        model = self.candidates[0]
        if self.hold_out == "none":
            return (
                f"No valid hold-out: residuals of halves correlate by {self.correlation:.2f}, so scores "
                f"favour models that fit noise. The rank comes from {self.rank.method}."
            )
        if len(self.candidates) == 1:
            rank = self.rank
            return f"PCA with {self.n_components} components; {rank.method} would choose {rank.chosen}."
        size = abs(model.difference) / model.standard_error if model.difference else 0.0
        if self.baseline_is_better():
            centred = self.candidates[-1].name.startswith("centred")
            instead = "architecture='pca' with TrainConfig(centre=True)" if centred else "result.baseline"
            return f"PCA of the same size is better, by {size:.1f} standard errors: prefer {instead}."
        if model.difference < 0 and size > _CLEAR:
            text = f"{model.name} is better than PCA of the same size, by {size:.1f} standard errors."
            if self.chosen not in (model.name, self.candidates[-1].name):
                text += f" But {self.chosen} is better still: the counts support no more components."
            return text
        if self.steps and self.best_step == 0:
            return f"{model.name} learnt nothing that predicts better than PCA of the same size, its start."
        return f"{model.name} and PCA of the same size cannot be told apart ({size:.1f} standard errors)."

    def baseline_is_better(self) -> bool:
        """Return whether PCA scores better on the test fold by more than two paired standard errors.

        Never without a valid hold-out: such scores decide nothing.
        """
        model = self.candidates[0]
        return self.hold_out != "none" and bool(model.difference > _CLEAR * model.standard_error)

    def of_baseline(self) -> Report:
        """Return the report of the baseline alone."""
        pca = next(c for c in reversed(self.candidates) if c.name == f"pca ({self.n_components})")
        return replace(
            self, architecture="pca", candidates=(pca,), chosen=pca.name, rank=self.baseline_rank,
            steps=(), step_scores=(), best_step=0, interrupted=False, smoothing=0.0, attempts=(),
        )  # fmt: skip

    def plot(self) -> Figure:
        """Plot the held-out rank curve, the scree with its noise edge and, if there was one, the training.

        Returns
        -------
        matplotlib figure
        """
        from hyperspy_specml.results import _figures

        return _figures.report_figure(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report without its curves, as nested numbers, text and lists for ``metadata.Specml``."""
        columns = ("score", "difference", "standard_error")
        facts = (
            "architecture", "n_components", "chosen", "noise_model", "hold_out", "correlation", "noise_edge",
            "used", "n_sampled", "random_state", "best_step", "interrupted", "trained_on",
            "resampled_from", "smoothing",
        )  # fmt: skip
        return {name: getattr(self, name) for name in facts} | {
            "candidates": {
                c.name: {column: getattr(c, column) for column in columns} for c in self.candidates
            },
            "attempts": {a.name: {"score": a.score, "collapsed": a.collapsed} for a in self.attempts},
            "rank": {"chosen": self.rank.chosen, "method": self.rank.method},
        }

    def n_above_edge(self) -> int:
        """Return how many eigenvalues of the scree lie above the noise edge."""
        return int((self.scree > self.noise_edge).sum())

    def _facts(self) -> list[tuple[str, str]]:
        parameters = ", ".join(f"{k} {_short(v)}" for k, v in self.noise_model.items() if k != "name")
        facts = [("architecture", f"{self.architecture}, {self.n_components} components")]
        if self.trained_on is not None:
            facts.append(("trained on", f"{self.trained_on}: noise, scores and rank below are of that map"))
        if self.resampled_from is not None:
            facts.append(("resampled", f"the model, not the counts; trained on {self.resampled_from}"))
        facts += [
            ("noise model", f"{self.noise_model['name']} ({parameters})"),
            ("hold-out", f"{self.hold_out}; residuals of halves correlate by {self.correlation:.3f}"),
            ("rank", f"{self.rank.chosen} by {self.rank.method}; {self.n_above_edge()} above the noise edge"),
            *((kind, ", ".join(f"{n} {name}" for name, n in of.items())) for kind, of in self.used.items()),
            ("scored on", f"{self.n_sampled} spectra"),
        ]
        if len(self.attempts) > 1 or any(attempt.collapsed for attempt in self.attempts):
            facts.append(("restarts", self._restarts()))
        if self.steps:
            stop = "interrupted: the best until then" if self.interrupted else "best held-out score"
            if self.smoothing:
                facts.append(("axes", f"smooth over {self.smoothing:g} channels, by held-out score"))
            facts.append(("training", f"step {self.best_step} of {self.steps[-1]} ({stop})"))
        return [*facts, ("time", ", ".join(f"{name} {t:.1f} s" for name, t in self.seconds.items()))]

    def _restarts(self) -> str:
        collapsed = sum(bool(attempt.collapsed) for attempt in self.attempts)
        scores = ", ".join(
            f"{a.name} {a.score:.4f}" + (f" ({a.collapsed})" if a.collapsed else "") for a in self.attempts
        )
        return f"{len(self.attempts)} tried, {collapsed} collapsed: {scores}"

    def _rows(self) -> list[tuple[str, ...]]:
        *models, pca = self.candidates
        rows = [(c.name, f"{c.score:.4f}", f"{c.difference:+.4f} ± {c.standard_error:.4f}") for c in models]
        rows.append((pca.name, f"{pca.score:.4f}", ""))
        return [(*row, "best" if row[0] == self.chosen else "") for row in rows]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"{v:.2f}" for v in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
