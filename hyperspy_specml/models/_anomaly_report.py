"""The report of an anomaly map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hyperspy_specml.models._report import CLEAR, Report

if TYPE_CHECKING:
    from hyperspy_specml.models._table import Row

_HEAD = ("candidate", "held-out deviance of a patch", "difference to PCA", "")


@dataclass(frozen=True, eq=False, kw_only=True)
class AnomalyReport(Report):
    """What an anomaly map was made with; see `Report` for what all reports hold.

    Candidates are those of the reference model, where an autoencoder was trained beside PCA. Their scores are
    deviances per patch of pixels on the test counts.

    Attributes
    ----------
    statistic, threshold
        The statistic, and in words the limit from which pixels are regions.
    model, n_components
        Architecture and size of the reference model.
    patch_side, patches_left_out
        Pixels along the side of the patches that it was learnt from, and how many of them were left out
        because they may contain something rare.
    n_windows
        Windows of energy that were scanned.
    smallest_p
        Smallest p-value that was not extrapolated; None where the statistic is not calibrated.
    drift
        Energy by which each scan line lay too high before it was moved back, in units of the energy axis;
        None where no line was moved.
    """

    method: ClassVar[str] = "anomaly_map"

    statistic: str
    threshold: str
    model: str
    n_components: int
    patch_side: int = 1
    patches_left_out: int = 0
    n_windows: int = 0
    smallest_p: float | None = None
    drift: tuple[float, ...] | None = None

    def facts(self) -> list[Row]:
        """Return what stands above the table."""
        facts: list[Row] = [("statistic", self.statistic), ("regions", self.threshold)]
        facts.append(("reference model", f"{self.model}, {self.n_components} components"))
        if self.trained_on is not None:
            facts.append(("learnt from", f"{self.trained_on}, with its errors and its null distribution"))
        if self.resampled_from is not None:
            facts.append(("resampled", f"the model, not the counts; learnt on {self.resampled_from}"))
        if self.patch_side > 1:
            left_out = f"{self.patches_left_out} left out as possibly rare"
            facts.append(("patches", f"{self.patch_side} pixels along the side; {left_out}"))
        facts.append(("noise model", self._noise()))
        facts += self._counts()
        facts.append(("windows", f"{self.n_windows} of energy"))
        if self.smallest_p is not None:
            facts.append(("p-values", f"extrapolated below {self.smallest_p:.1g}"))
        if self.drift is not None:
            facts.append(("drift", f"scan lines moved by {min(self.drift):+.3g} to {max(self.drift):+.3g}"))
        if self.steps:
            facts.append(("training", self._training()))
        return [*facts, self._times()]

    def rows(self) -> tuple[Row, list[Row]]:
        """Return the candidates, PCA last; none where no network was trained."""
        rows = [(c.name, f"{c.score:.4f}", f"{c.difference:+.4f} ± {c.standard_error:.4f}") for c in self.candidates]
        return _HEAD, [(*row, "reference model" if row[0] == self.chosen else "") for row in rows]

    def words(self) -> list[str]:
        """Return how the autoencoder compares with PCA; nothing where none was trained."""
        if not self.candidates:
            return []
        network = self.candidates[0]
        if network.difference < -CLEAR * network.standard_error:
            return [f"{network.name} describes sums over neighbouring pixels better than PCA of the same size."]
        return [f"{network.name} does not describe sums over neighbouring pixels clearly better than PCA."]
