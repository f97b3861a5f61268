"""The report of an estimate of shifts along energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperspy_specml.models._report import Report

if TYPE_CHECKING:
    from hyperspy_specml.models._report import Row

# Share of the spectra near the end of the range from which shifts may lie beyond it.
_AT_END = 0.01


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ShiftReport(Report):
    """The evidence behind a map of shifts; see `Report` for what all reports hold.

    Attributes
    ----------
    per
        "pixel" or "line".
    n_templates
        Templates that the spectra are mixtures of.
    template_gain, template_error
        By how much two templates predict the other half of the spectra better than one, in log-likelihood per
        spectrum, and its standard error; None where the number was given.
    units
        Of the energy axis.
    step, largest
        Of the grid of shifts, in these units.
    spread
        Standard deviation of the distribution of shifts that was learnt, in these units.
    typical_error
        Median error of a shift, in these units.
    at_end
        Share of the spectra whose shift may lie beyond the largest one.
    """

    method = "estimate_shift"

    per: str
    n_templates: int
    template_gain: float | None
    template_error: float | None
    units: str
    step: float
    largest: float
    spread: float
    typical_error: float
    at_end: float

    def facts(self) -> list[Row]:
        """Return the facts."""
        gain = ""
        if self.template_gain is not None:
            gain = f", a second one changes the log-likelihood of a held-out spectrum by {self.template_gain:+.3f} ± "
            gain += f"{self.template_error:.3f}"
        return [
            ("shifts", f"for each {self.per}, 0 on average"),
            ("noise model", self._noise()),
            ("templates", f"{self.n_templates}, smooth over {self.smoothing:g} channels{gain}"),
            ("distribution", f"standard deviation {self.spread:.3g} {self.units}"),
            ("grid", f"steps of {self.step:.3g} {self.units}, up to {self.largest:.3g} {self.units} each way"),
            ("typical error", f"{self.typical_error:.3g} {self.units}"),
            *self._counts(),
            self._times(),
        ]

    def words(self) -> list[str]:
        """Return what to be careful with."""
        return [text for text in (self._range(), self._chemistry(), self._weak()) if text]

    def _range(self) -> str:
        if self.at_end < _AT_END:
            return ""
        return (
            f"{self.at_end:.0%} of the shifts are near the largest that was looked for, {self.largest:.3g} "
            f"{self.units}: ask for more, max_shift={2 * self.largest:.3g}."
        )

    def _chemistry(self) -> str:
        if self.n_templates == 1:
            return ""
        return (
            "Spectra are of several kinds: what moves an edge chemically cannot be told from a drift, and errors do "
            "not hold that."
        )

    def _weak(self) -> str:
        if self.typical_error < 0.8 * self.spread:
            return ""
        return (
            "Single spectra say little of their shift: take whole scan lines, per='line', or sum pixels, s.rebin(...)."
        )
