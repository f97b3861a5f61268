"""The report of a decomposition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from hyperspy_specml.models._report import CLEAR, CURVE, Attempt, Report

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from hyperspy_specml.models._table import Row
    from hyperspy_specml.statistics import RankCurve

_HEAD = ("candidate", "held-out deviance", "difference to PCA", "")


@dataclass(frozen=True, eq=False, kw_only=True)
class DecompositionReport(Report):
    """The evidence behind a decomposition; see `Report` for what all reports hold.

    Scores of candidates are deviances per spectrum on the test fold (15 % of the counts, which chose nothing). They
    belong to models fitted on 70 % of the counts; the returned ones were fitted on all. Last comes what the others
    are compared with: PCA of the same size, about the mean spectrum or not, as is better.

    Attributes
    ----------
    architecture, n_components
        What was fitted.
    rank, baseline_rank
        Score against the number of components, with paired standard errors, for the architecture that chose
        it and for PCA; the same curve where K was not chosen by a network.
    scree, noise_edge
        All eigenvalues of the noise-whitened data, falling, and the largest one that noise alone makes.
    attempts
        Starts of the training: name, score on the validation fold (for the simplex architecture with the penalty
        on its volume), and why it counts as collapsed, or "".
    """

    method: ClassVar[str] = "decomposition_ae"

    architecture: str
    n_components: int
    rank: RankCurve = field(repr=False, metadata=CURVE)
    baseline_rank: RankCurve = field(repr=False, metadata=CURVE)
    scree: np.ndarray = field(repr=False, metadata=CURVE)
    noise_edge: float
    attempts: tuple[Attempt, ...] = ()

    def words(self) -> list[str]:
        """Return the verdict."""
        return [self.verdict()]

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
            instead = "architecture='pca' with options=PCAOptions(centre=True)" if centred else "result.baseline"
            return f"PCA of the same size is better, by {size:.1f} standard errors: prefer {instead}."
        if model.difference < 0 and size > CLEAR:
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
        return self.hold_out != "none" and bool(model.difference > CLEAR * model.standard_error)

    def of_baseline(self) -> DecompositionReport:
        """Return the report of the baseline alone."""
        pca = next(c for c in reversed(self.candidates) if c.name == f"pca ({self.n_components})")
        return replace(
            self, architecture="pca", candidates=(pca,), chosen=pca.name, rank=self.baseline_rank,
            steps=(), step_scores=(), best_step=0, interrupted=False, smoothing=0.0, attempts=(),
        )  # fmt: skip

    def n_above_edge(self) -> int:
        """Return how many eigenvalues of the scree lie above the noise edge."""
        return int((self.scree > self.noise_edge).sum())

    def facts(self) -> list[Row]:
        """Return what stands above the table."""
        facts: list[Row] = [("architecture", f"{self.architecture}, {self.n_components} components")]
        if self.trained_on is not None:
            facts.append(("trained on", f"{self.trained_on}: noise, scores and rank below are of that map"))
        if self.resampled_from is not None:
            facts.append(("resampled", f"the model, not the counts; trained on {self.resampled_from}"))
        above = self.n_above_edge()
        facts += [
            ("noise model", self._noise()),
            ("hold-out", self._hold_out()),
            ("rank", f"{self.rank.chosen} by {self.rank.method}; {above} above the noise edge"),
            *self._counts(),
            ("scored on", f"{self.n_sampled} spectra"),
        ]
        if len(self.attempts) > 1 or any(attempt.collapsed for attempt in self.attempts):
            facts.append(("restarts", self._restarts()))
        if self.steps and self.smoothing:
            facts.append(("basis", f"smooth over {self.smoothing:g} channels, by held-out score"))
        if self.steps:
            facts.append(("training", self._training()))
        return [*facts, self._times()]

    def rows(self) -> tuple[Row, list[Row]]:
        """Return the candidates, the rival last."""
        *models, pca = self.candidates
        rows = [(c.name, f"{c.score:.4f}", f"{c.difference:+.4f} ± {c.standard_error:.4f}") for c in models]
        rows.append((pca.name, f"{pca.score:.4f}", ""))
        return _HEAD, [(*row, "best" if row[0] == self.chosen else "") for row in rows]

    def plot(self, figure: Figure | None = None) -> Figure:
        """Plot the rank curve, the scree with its noise edge and, if a network was trained, its training.

        Parameters
        ----------
        figure
            Empty figure or subfigure to plot into; by default a new one of pyplot.

        Returns
        -------
        the figure
        """
        from hyperspy_specml.models._report_figures import decomposition_figure

        return decomposition_figure(self, figure=figure)

    def _restarts(self) -> str:
        collapsed = sum(bool(attempt.collapsed) for attempt in self.attempts)
        scores = ", ".join(
            f"{a.name} {a.score:.4f}" + (f" ({a.collapsed})" if a.collapsed else "") for a in self.attempts
        )
        return f"{len(self.attempts)} tried, {collapsed} collapsed: {scores}"
