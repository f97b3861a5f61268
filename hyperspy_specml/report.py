"""What a fit found out about itself, as data that prints as a table."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_specml.estimators import Candidate, Decomposition
    from hyperspy_specml.statistics import RankCurve

_CLEAR = 2  # standard errors that make a difference worth a word


@dataclass(frozen=True)
class Report:
    """The evidence behind a decomposition.

    Attributes
    ----------
    architecture, n_components
        What was fitted.
    candidates
        Name, score, difference to the baseline and its paired standard error, in deviance per spectrum on
        the report fold (15 % of the counts, which chose nothing); smaller is better. The scores belong to
        models fitted on 70 % of the counts; the returned ones were fitted on all.
    chosen
        Name of the candidate with the best score on the choosing fold.
    noise_model
        Name and parameters; for counts also ``fano``, the residuals' variance over their mean.
    hold_out
        "exact" (independent folds), "approximate" (equal in the first two moments) or "none" (the folds
        correlate; ``correlation`` says how much).
    correlation
        Correlation of the residuals of two halves of the data, 0 where the noise model holds.
    rank
        Held-out score against the number of components, with paired standard errors.
    scree, noise_edge
        All eigenvalues of the noise-whitened data, falling, and the largest one that noise alone makes.
    used
        Numbers of pixels and channels in each state, e.g. ``{"pixels": {"used": 6397, "empty": 3}, ...}``.
    n_sampled
        Spectra that the folds were made of.
    steps, step_scores, best_step, interrupted
        Training: score on the choosing fold at steps, the step that was kept, and whether Ctrl-C ended it.
    seconds
        Time of the stages.
    """

    architecture: str
    n_components: int
    candidates: tuple[Candidate, ...]
    chosen: str
    noise_model: dict[str, Any]
    hold_out: str
    correlation: float
    rank: RankCurve
    scree: np.ndarray = field(repr=False)
    noise_edge: float
    used: dict[str, dict[str, int]]
    n_sampled: int
    steps: tuple[int, ...] = field(repr=False)
    step_scores: tuple[float, ...] = field(repr=False)
    best_step: int
    interrupted: bool
    seconds: dict[str, float]

    def __str__(self) -> str:
        """Return the table as text."""
        width = max(len(name) for name, _ in self._facts())
        lines = [f"{name:<{width}}  {value}" for name, value in self._facts()]
        rows = [("candidate", "held-out deviance", "difference to PCA", ""), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines += [
            "",
            *("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows),
        ]
        return "\n".join([*lines, "", self.verdict()])

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        facts = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        head = "<tr><th>candidate</th><th>held-out deviance</th><th>difference to PCA</th><th></th></tr>"
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        return f"<table>{facts}</table><table>{head}{rows}</table><p>{html.escape(self.verdict())}</p>"

    def verdict(self) -> str:
        """Say in one sentence how the model compares with PCA."""
        model, baseline = self.candidates[0], self.candidates[-1]
        if self.hold_out == "none":
            return (
                f"No valid hold-out: the halves' residuals correlate by {self.correlation:.2f}, so the scores "
                "above favour models that fit noise. The rank comes from bi-cross-validation."
            )
        if model is baseline:
            return (
                f"PCA with {self.n_components} components; held-out scores would choose {self.rank.chosen}."
            )
        size = abs(model.difference) / model.standard_error if model.standard_error > 0 else np.inf
        if self.baseline_is_better():
            return f"PCA of the same size is better, by {size:.1f} standard errors: prefer result.baseline."
        if model.difference < 0 and size > _CLEAR:
            return f"{model.name} is better than PCA of the same size, by {size:.1f} standard errors."
        return f"{model.name} and PCA of the same size cannot be told apart ({size:.1f} standard errors)."

    def baseline_is_better(self) -> bool:
        """Return whether PCA scores better on the report fold by more than two paired standard errors."""
        model = self.candidates[0]
        return bool(model.difference > _CLEAR * model.standard_error)

    def plot(self) -> Figure:
        """Plot the held-out rank curve, the scree with its noise edge and, if there was one, the training."""
        from hyperspy_specml import _figures

        return _figures.report_figure(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as nested plain numbers, text and lists (stored under ``metadata.Specml``)."""
        return {
            "architecture": self.architecture,
            "n_components": self.n_components,
            "chosen": self.chosen,
            "candidates": {
                c.name: {"score": c.score, "difference": c.difference, "standard_error": c.standard_error}
                for c in self.candidates
            },
            "noise_model": self.noise_model,
            "hold_out": self.hold_out,
            "correlation": self.correlation,
            "noise_edge": self.noise_edge,
            "used": self.used,
            "best_step": self.best_step,
            "interrupted": self.interrupted,
        }

    def _facts(self) -> list[tuple[str, str]]:
        parameters = ", ".join(f"{k} {_short(v)}" for k, v in self.noise_model.items() if k != "name")
        facts = [
            ("architecture", f"{self.architecture}, {self.n_components} components"),
            ("noise model", f"{self.noise_model['name']} ({parameters})"),
            ("hold-out", f"{self.hold_out}; residuals of halves correlate by {self.correlation:.3f}"),
            ("rank", f"{self.rank.chosen} by {self.rank.method}; {self.n_above_edge()} above the noise edge"),
        ]
        facts += [
            (kind, ", ".join(f"{n} {name}" for name, n in n_of.items())) for kind, n_of in self.used.items()
        ]
        facts.append(("scored on", f"{self.n_sampled} spectra"))
        if self.steps:
            stop = "stopped by the user" if self.interrupted else "best held-out score"
            facts.append(("training", f"step {self.best_step} of {self.steps[-1]} ({stop})"))
        facts.append(("time", ", ".join(f"{name} {t:.1f} s" for name, t in self.seconds.items())))
        return facts

    def n_above_edge(self) -> int:
        """Return how many eigenvalues of the scree lie above the noise edge."""
        return int((self.scree > self.noise_edge).sum())

    def _rows(self) -> list[tuple[str, str, str, str]]:
        rows = []
        for c in self.candidates:
            difference = (
                f"{c.difference:+.4f} ± {c.standard_error:.4f}" if c is not self.candidates[-1] else ""
            )
            rows.append((c.name, f"{c.score:.4f}", difference, "best" if c.name == self.chosen else ""))
        return rows


def report_on(found: Decomposition) -> Report:
    """Collect the report of a fitted decomposition."""
    study = found.study
    noise_model = study.estimate.model.to_dict() | {"fano": study.estimate.fano}
    return Report(
        architecture=found.model.architecture,
        n_components=found.model.n_components,
        candidates=found.candidates,
        chosen=min(found.candidates, key=lambda c: c.choose_score).name,
        noise_model=noise_model,
        hold_out=study.hold_out,
        correlation=study.correlation,
        rank=found.rank,
        scree=study.axes.eigenvalues,
        noise_edge=study.edge,
        used=study.survey.counts(),
        n_sampled=len(study.folds.choose),
        steps=found.steps,
        step_scores=found.step_scores,
        best_step=found.best_step,
        interrupted=found.interrupted,
        seconds=found.seconds,
    )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"{v:.2f}" for v in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
