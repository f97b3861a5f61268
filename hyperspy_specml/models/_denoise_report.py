"""The report of a denoising."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperspy_specml.models._report import Candidate, Report

if TYPE_CHECKING:
    from typing import Self

    from hyperspy_specml.models._table import Row

_HEAD = ("candidate", "held-out error", "difference to PCA", "")
# Removed features that a sentence names; more would fill the screen.
_NAMED = 3
# Stages of a call in their order.
_STAGES = ("preparation", "training", "scoring", "final fit", "application", "check")


@dataclass(frozen=True)
class RemovedFeature:
    """Signal that a denoiser removed from neighbouring pixels and that noise cannot explain.

    Attributes
    ----------
    energy
        Where it is strongest, as text with its unit.
    position
        Of the middle of its pixels on the scan axes, as text.
    z
        Of the strongest window, in standard deviations of the noise; negative where signal was added.
    excess
        Counts (units of the data) removed from all its pixels together, in the window of energies where it is
        strongest; negative where signal was added.
    pixels
        Flat indices of its pixels in array order.
    """

    energy: str
    position: str
    z: float
    excess: float
    pixels: tuple[int, ...] = field(repr=False)

    @property
    def n_pixels(self) -> int:
        """Number of its pixels."""
        return len(self.pixels)


@dataclass(frozen=True, eq=False, kw_only=True)
class DenoiseReport(Report):
    """The evidence behind a denoised signal; see `Report` for what all reports hold.

    Scores of candidates are squared errors in units of the noise variance, summed over the channels of a
    spectrum; noise alone makes about 1 for each channel. They are measured on the test fold (15 % of the
    counts, which chose nothing) and belong to models fitted on 70 % of the counts; the applied one is fitted
    on all. Plain PCA is last.

    Attributes
    ----------
    context
        What candidates were allowed to see: "auto", "spectral" or "spatial".
    corruption
        How inputs for the networks were made from counts.
    noise_reduction
        Standard deviation of the noise in the data over that in the denoised data, over all channels: by how
        much the maps look smoother. `error` says how near they are to the truth.
    error, error_standard_error, error_variance
        Squared error that is left, in the unit of the scores, estimated without the truth: from the product
        of the residuals of the validation and the test fold. Its part `error_variance` is noise; the rest is
        bias, which is the same in every repetition and looks like signal.
    signal_variance
        Variance of the denoised spectra over the map, in the same unit.
    n_boxes
        Boxes of the map that the `n_sampled` spectra come from; one box is the whole map.
    n_components
        Score maps P that the denoised spectra are made of.
    line_width
        Full width at half maximum of the sharpest line of this map, in channels; None for libraries. The
        smoothing of the basis is an eighth of it at most, and removed signal is looked for in windows of one
        and a half of it.
    n_steps
        Steps of the training of the chosen network; 0 for filters and PCA.
    relative_intensity
        Mean counts of this map over those of the training map; for libraries the mean counts of a spectrum.
    shape
        Of this map, in array order.
    removed
        Signal that was removed and that noise cannot explain, strongest first. A map without any shows one
        with a probability of 1 %.
    restored
        Whether it was added again (``protect=True``).
    """

    method: ClassVar[str] = "denoise_dae"

    context: str
    noise_reduction: float
    error: float
    error_standard_error: float
    error_variance: float
    signal_variance: float
    n_components: int
    n_boxes: int = 1
    n_steps: int = 0
    corruption: str = "split"
    relative_intensity: float = 1.0
    line_width: float | None = None
    shape: tuple[int, ...]
    removed: tuple[RemovedFeature, ...] = ()
    restored: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the report as in `Report`, but `candidates` as JSON and `removed` as bytes of JSON.

        As lists they would fill the screen with metadata. Long texts do not fit into attributes of HDF5.
        """
        plain = super().to_dict()
        candidates, removed = (json.dumps(plain[name]) for name in ("candidates", "removed"))
        return plain | {"candidates": candidates, "removed": removed.encode()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Return the report that `to_dict` made plain; see `Report`."""
        removed = plain["removed"]
        removed = removed if isinstance(removed, bytes) else np.asarray(removed, np.uint8).tobytes()
        seconds = plain["seconds"]  # files forget their order
        ordered = {name: seconds[name] for name in (*_STAGES, *seconds) if name in seconds}
        tables = {"candidates": json.loads(plain["candidates"]), "removed": json.loads(removed)}
        return super().from_dict(plain | tables | {"seconds": ordered})

    def words(self) -> list[str]:
        """Return the verdict, and what was removed."""
        return [self.verdict(), self.removed_in_words()]

    def verdict(self) -> str:
        """Say in one sentence how the denoised data compare with PCA."""
        chosen = next(c for c in self.candidates if c.name == self.chosen)
        plain = self.candidates[-1]
        if self.hold_out == "none":
            return (
                f"No valid hold-out: residuals of halves correlate by {self.correlation:.2f}, so scores "
                "favour candidates that keep the noise. Plain PCA was taken."
            )
        if chosen is plain:
            return f"Nothing predicts held-out counts better than plain {plain.name}."
        size = -chosen.difference / chosen.standard_error if chosen.difference else 0.0
        return f"{chosen.name} is better than plain {plain.name}, by {size:.1f} standard errors."

    def removed_in_words(self) -> str:
        """Say what was removed, and where."""
        n = len(self.removed)
        if not n:
            return "No signal was removed that noise cannot explain."
        named = [
            f"{one.energy} at {one.position} ({one.n_pixels} pixels, {one.z:+.1f} standard deviations)"
            for one in self.removed[:_NAMED]
        ]
        what = "feature was" if n == 1 else "features were"
        done = "removed and restored" if self.restored else "removed"
        rest = f" and {n - _NAMED} more" if n > _NAMED else ""
        return f"{n} {what} {done} that noise cannot explain: {'; '.join(named)}{rest}."

    def removed_map(self) -> np.ndarray:
        """Return a map of int in array order: 0, or the number of the removed feature of a pixel.

        The strongest feature is number 1.
        """
        regions = np.zeros(math.prod(self.shape), int)
        for number, one in enumerate(self.removed, start=1):
            regions[list(one.pixels)] = number
        return regions.reshape(self.shape)

    def facts(self) -> list[Row]:
        """Return what stands above the table."""
        bias = max(0.0, 1 - self.error_variance / self.error) if self.error > 0 else 0.0
        facts = [
            ("chosen", f"{self.chosen}, of the candidates with context={self.context!r}"),
            ("noise", f"{self.noise_reduction:.3g} times less; {self.noise_model['name']} noise"),
            (
                "error left",
                f"{self.error:.3g} ± {self.error_standard_error:.2g} in units of the noise, {bias:.0%} of it "
                f"bias; the signal varies by {self.signal_variance:.3g}",
            ),
            ("hold-out", self._hold_out()),
            *self._counts(),
            *self._origin(),
        ]
        if self.smoothing:
            facts.append(("basis", f"smooth over {self.smoothing:g} channels, by held-out score"))
        if self.n_steps or self.interrupted:
            facts.append(("training", self._training()))
        return [*facts, self._times()]

    def _origin(self) -> list[Row]:
        where = "" if self.n_boxes == 1 else f" in {self.n_boxes} boxes of the map"
        facts: list[Row] = []
        if self.trained_on is not None:
            where += f" of {self.trained_on!r}, to which the scores belong"
            unit = "counts in a spectrum" if self.hold_out == "simulated" else "times that of the training map"
            facts.append(("intensity", f"{self.relative_intensity:.4g} {unit}"))
        facts.append(("learnt from", f"{self.n_sampled} spectra{where}"))
        if self.resampled_from is not None:
            facts.append(("resampled", f"from {self.resampled_from}"))
        return facts

    def _training(self) -> str:
        if not self.n_steps:
            return "interrupted: the candidates that were ready until then"
        stop = "interrupted: the best until then" if self.interrupted else "best held-out score"
        how = "" if self.corruption == "split" else f", inputs by {self.corruption}"
        return f"step {self.best_step} of {self.n_steps} ({stop}){how}"

    def rows(self) -> tuple[Row, list[Row]]:
        """Return the candidates, the best on the validation fold first."""
        ordered = sorted(self.candidates, key=lambda candidate: candidate.validation_score)
        return _HEAD, [self._row(candidate) for candidate in ordered]

    def _row(self, one: Candidate) -> Row:
        difference = f"{one.difference:+.4f} ± {one.standard_error:.4f}"
        return (one.name, f"{one.score:.4f}", difference, "chosen" if one.name == self.chosen else "")
