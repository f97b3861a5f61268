"""The report of a phase map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.models._report import CLEAR, Report, new_figure
from hyperspy_specml.statistics import RankCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_specml.models._report import Row


@dataclass(frozen=True, eq=False, kw_only=True)
class PhaseReport(Report):
    """The evidence behind a phase map; see `Report` for what all reports hold.

    Attributes
    ----------
    n_phases
        Number of phases.
    numbers
        Held-out score against the number of phases, with paired standard errors; None where it was given.
    merged
        Why phases that held-out counts alone would keep are none: each a "mixture" of two others that lies between
        them, a "variation" within another one, or "smeared": hardly anywhere alone in a pixel.
    all_counts
        Whether one phase more than the held-out fold supports was found by all counts, each held out once.
    strength
        Of the agreement of neighbours, by held-out counts: log odds that one neighbour adds; 0 where the order of
        the spectra tells nothing.
    mixed
        Part of the pixels near borders that are mixtures of two phases; None where mixtures were not asked for.
    group_width
        Channels that were taken together.
    model_error
        Relative error of the phases' spectra that makes most of the map ordinary.
    drift
        Largest drift of a scan line that was taken back, in channels.
    latents
        What was clustered, where it was latents of a decomposition and not spectra.
    level, n_rejected
        Of known phases: p-value below which a pixel is none of them, and how many pixels are.
    """

    method = "phase_map"
    score_name = "held-out deviance"

    n_phases: int
    numbers: RankCurve | None = field(default=None, repr=False)
    merged: tuple[str, ...] = ()
    all_counts: bool = False
    strength: float = 0.0
    mixed: float | None = None
    group_width: int = 1
    model_error: float = 0.0
    drift: int = 0
    latents: str = ""
    level: float | None = None
    n_rejected: int | None = None

    def facts(self) -> list[Row]:
        """Return what stands above the table."""
        curve = self.numbers or RankCurve()
        rows = zip(curve.ranks, curve.scores - curve.scores.min(initial=np.inf), curve.standard_errors, strict=True)
        scores = ", ".join(f"{k}: {above:+.4f} ± {error:.4f}" for k, above, error in rows)
        return [
            ("phases", str(self.n_phases)),
            ("found in", self.latents),
            *self._origin("learnt on", ": noise and scores below are of that map"),
            ("noise model", self._noise()),
            ("held-out score by number", scores),
            ("one phase more", "by all counts, each held out once" if self.all_counts else ""),
            ("no phases of their own", self._merged()),
            ("neighbours", f"strength {self.strength:g}, by held-out counts" if self.strength else "no say"),
            ("mixed pixels", "" if self.mixed is None else f"{self.mixed:.0%} of those near a border"),
            ("channels", f"{self.group_width} together" if self.group_width > 1 else ""),
            ("drift", f"scan lines moved by up to {self.drift} channels" if self.drift else ""),
            ("model error", f"{self.model_error:.0%} of a line" if self.model_error else ""),
            ("none of these", "" if self.n_rejected is None else f"{self.n_rejected} pixels, p < {self.level:g}"),
            *self._counts(),
            self._times(),
        ]

    def _merged(self) -> str:
        words = {
            "mixture": "mixtures of two others between them",
            "variation": "variations within one",
            "smeared": "pure hardly anywhere",
        }
        counts = {text: self.merged.count(why) for why, text in words.items()}
        return ", ".join(f"{n} {text}" for text, n in counts.items() if n)

    def words(self) -> list[str]:
        """Return the verdict."""
        return [self.verdict()]

    def verdict(self) -> str:
        """Say in one sentence whether the map is made of phases."""
        if not self.candidates:
            return f"{self.n_phases} phases."
        if self.latents:
            return f"{self.n_phases} phase{'s' * (self.n_phases > 1)}, within which spectra may vary: {self.latents}."
        if self._smeared():
            return (
                "Prefer s.decomposition_ae(architecture='simplex'), which gives shares: there is more than one "
                "spectrum, but hardly a pixel of one alone."
            )
        size, text = self._beside_pca("is" if self.n_phases == 1 else "are")
        if self.varies():
            return (
                "Prefer s.decomposition_ae(architecture='simplex'), which gives shares: spectra vary within phases or "
                f"mix everywhere, and PCA of the same size is better, by {-size:.1f} standard errors."
            )
        return text

    def varies(self) -> bool:
        """Return whether there are hardly phases: PCA is better by two standard errors, or no pixel is pure."""
        if self.latents:
            return False  # that is why they were asked for
        return self._smeared() or (
            bool(self.candidates) and self.candidates[0].difference > CLEAR * self.candidates[0].standard_error
        )

    def _smeared(self) -> bool:
        return self.n_phases == 1 and "smeared" in self.merged

    def plot(self, figure: Figure | None = None) -> Figure:
        """Plot the held-out score against the number of phases.

        Parameters
        ----------
        figure
            Empty figure or subfigure to plot into; by default a new one of pyplot.

        Returns
        -------
        the figure
        """
        if self.numbers is None or not self.numbers.ranks.size:
            return super().plot(figure)
        figure = figure or new_figure(4.8, 3.2)
        axes = figure.subplots()
        curve = self.numbers
        axes.errorbar(
            curve.ranks, curve.scores - curve.scores.min(), yerr=curve.standard_errors, fmt="o-", markersize=4
        )
        axes.axvline(curve.chosen, color="C1", linewidth=0.8)
        axes.set(xlabel="phases", ylabel="held-out score above the best", title="\n".join(self.words()))
        axes.set_yscale("symlog", linthresh=max(1e-6, float(curve.standard_errors.max())))
        axes.title.set(fontsize="small", wrap=True)
        return figure
