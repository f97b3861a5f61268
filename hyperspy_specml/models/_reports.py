"""The reports of the three methods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.models._report import CLEAR, CURVE, Attempt, Candidate, Report, new_figure
from hyperspy_specml.statistics import RankCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_specml.models._report import Row

# Number of labels on an axis of whole numbers, at most: ten of four digits touch.
_MAX_TICKS = 6
# Number of eigenvalues that the scree shows, at least.
_MIN_SCREE = 20
# Removed features that a sentence names; more would fill the screen.
_NAMED = 3


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DecompositionReport(Report):
    """The evidence behind a decomposition; see `Report` for what all reports hold.

    Scores of candidates are deviances per spectrum on the test fold (15 % of the counts, which chose nothing). They
    belong to models fitted on 70 % of the counts; the returned ones were fitted on all. Last comes what the others
    are compared with: PCA of the same size, about the mean spectrum or not, as is better.

    Attributes
    ----------
    architecture, n_components
        What was fitted.
    n_added
        Components beyond those that brief trainings chose: because these could not tell and a full one is clearly
        better, or because what was left was coherent in many places.
    rank, baseline_rank
        Score against the number of components, with paired standard errors, for the architecture that chose
        it and for PCA; the same curve where K was not chosen by a network.
    scree, noise_edge
        All eigenvalues of the noise-whitened data, falling, and the largest one that noise alone makes.
    attempts
        Starts of the training: name, score on the validation fold (for the simplex architecture with the penalty
        on its volume), and why it counts as collapsed, or "".
    assumption
        What unmixing supposes of the phases, by which its candidates differ; "" for others.
    """

    method = "decomposition_ae"
    mark = "best"

    architecture: str
    n_components: int
    n_added: int = 0
    rank: RankCurve = field(default_factory=RankCurve, repr=False)
    baseline_rank: RankCurve = field(default_factory=RankCurve, repr=False)
    scree: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, metadata=CURVE)
    noise_edge: float
    attempts: tuple[Attempt, ...] = ()
    assumption: str = ""

    def words(self) -> list[str]:
        """Return the verdict."""
        return [self.verdict()]

    def verdict(self) -> str:
        """Say in one sentence how the model compares with PCA."""
        rank = self.rank
        if self.hold_out == "none":
            chosen = f"models that fit noise and chose nothing; {rank.method} chooses rank {rank.chosen}."
            return self._no_hold_out() + chosen
        if len(self.candidates) == 1:
            return f"PCA with {self.n_components} components; {rank.method} would choose {rank.chosen}."
        (size, text), name = self._beside_pca(), self.candidates[0].name
        if self.baseline_is_better():
            centred = self.candidates[-1].name.startswith("centred")
            instead = "architecture='pca' with options=PCAOptions(centre=True)" if centred else "result.baseline"
            return f"Prefer {instead}: PCA of the same size is better, by {-size:.1f} standard errors."
        best = next(one for one in self.candidates if one.name == self.chosen)
        if size > CLEAR and best.score < self.candidates[0].score and best is not self.candidates[-1]:
            return f"{text} But {best.name} is better still{self._of_another_size(best)}."
        if size <= CLEAR and self.steps and self.best_step == 0:
            return f"{name} learnt nothing that predicts better than PCA of the same size, its start."
        return text

    def _of_another_size(self, best: Candidate) -> str:
        """Return what follows for the number of components where the best candidate has another one."""
        if f"({self.n_components})" in best.name:
            return ""
        more = "no more" if self.baseline_rank.chosen < self.n_components else "more"
        return f": the counts support {more} components"

    def baseline_is_better(self) -> bool:
        """Return whether PCA scores better on the test fold by more than two paired standard errors.

        Never without a valid hold-out: such scores decide nothing.
        """
        model = self.candidates[0]
        return self.hold_out != "none" and bool(model.difference > CLEAR * model.standard_error)

    def of_baseline(self) -> DecompositionReport:
        """Return the report of the baseline alone."""
        pca = next(c for c in reversed(self.candidates) if c.name == f"pca ({self.n_components})")
        own: dict[str, Any] = {"candidates": (pca,), "chosen": pca.name, "rank": self.baseline_rank, "smoothing": 0.0}
        own |= {"steps": (), "step_scores": (), "best_step": 0, "interrupted": False, "attempts": (), "assumption": ""}
        return replace(self, architecture="pca", **own)

    def n_above_edge(self) -> int:
        """Return how many eigenvalues of the scree lie above the noise edge."""
        return int((self.scree > self.noise_edge).sum())

    def facts(self) -> list[Row]:
        """Return what stands above the table."""
        added = self.n_added
        return [
            ("architecture", f"{self.architecture}, {self.n_components} components"),
            ("supposes", self.assumption),
            *self._origin("trained on", ": noise, scores and rank below are of that map"),
            ("noise model", self._noise()),
            ("hold-out", self._hold_out()),
            ("rank", f"{self.rank.chosen} by {self.rank.method}{self._above_edge()}"),
            ("added", f"{added} by full trainings, or for what is left in many places" if added else ""),
            *self._counts(),
            ("scored on", f"{self.n_sampled} spectra"),
            ("restarts", self._restarts()),
            *self._learning(),
        ]

    def rows(self) -> tuple[Row, list[Row]]:
        """Return the candidates, the rival last; see `Report`."""
        head, rows = super().rows()
        name, score, _, mark = rows[-1]
        return head, [*rows[:-1], (name, score, "", mark)]

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
        from matplotlib.ticker import MaxNLocator

        figure = figure or new_figure(4.2 * (3 if self.steps else 2), 3.6)
        curve, scree, *training = panels = figure.subplots(1, 3 if self.steps else 2)
        rank, shown = self.rank, self.scree[: max(_MIN_SCREE, 2 * self.n_above_edge())]
        shown = np.where(shown > 0, shown, np.nan)  # rounding leaves some below zero
        curve.errorbar(rank.ranks, rank.scores, yerr=rank.standard_errors, fmt="o-", markersize=3, capsize=2)
        curve.axvline(rank.chosen, color="C1", label=f"chosen: {rank.chosen}")
        curve.set(xlabel="components", ylabel="held-out score", title=rank.method)
        scree.semilogy(np.arange(1, len(shown) + 1), shown, "o", markersize=3)
        scree.axhline(self.noise_edge, color="C1", label="noise edge")
        scree.set(xlabel="component", ylabel="eigenvalue / noise variance", title="scree")
        for axes in training:
            axes.plot(self.steps, self.step_scores, "o-", markersize=3)
            axes.axvline(self.best_step, color="C1", label=f"kept: step {self.best_step}")
            axes.set(xlabel="training step", ylabel="held-out score", title="training")
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS, integer=True))
            axes.legend()
        return figure

    def _above_edge(self) -> str:
        return f"; {self.n_above_edge()} above the noise edge" if self.scree.size else ""  # a short report has no scree

    def _restarts(self) -> str:
        collapsed = sum(bool(attempt.collapsed) for attempt in self.attempts)
        if len(self.attempts) < 2 and not collapsed:
            return ""
        reasons = [f" ({attempt.collapsed})" if attempt.collapsed else "" for attempt in self.attempts]
        scores = ", ".join(f"{a.name} {a.score:.4f}{why}" for a, why in zip(self.attempts, reasons, strict=True))
        return f"{len(self.attempts)} tried, {collapsed} collapsed: {scores}"


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


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
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
    averaged
        Width in pixels of the average over neighbours from which spectra of counts have their totals; None where
        the totals of the denoiser are clearly better than those, or nothing tells.
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

    method = "denoise_dae"
    score_name = "held-out error"

    context: str
    noise_reduction: float
    error: float
    error_standard_error: float
    error_variance: float
    signal_variance: float
    n_components: int
    n_boxes: int = 1
    n_steps: int = 0
    averaged: float | None = None
    corruption: str = "split"
    relative_intensity: float = 1.0
    line_width: float | None = None
    shape: tuple[int, ...]
    removed: tuple[RemovedFeature, ...] = ()
    restored: bool = False

    def words(self) -> list[str]:
        """Return the verdict, and what was removed."""
        return [self.verdict(), self.removed_in_words()]

    def verdict(self) -> str:
        """Say in one sentence how the denoised data compare with PCA."""
        chosen = next(c for c in self.candidates if c.name == self.chosen)
        plain = self.candidates[-1]
        if self.hold_out == "none":
            return f"{self._no_hold_out()}candidates that keep the noise. Plain PCA was taken."
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
        where = "" if self.n_boxes == 1 else f" in {self.n_boxes} boxes of the map"
        intensity = ""
        if self.trained_on is not None:
            where += f" of {self.trained_on!r}, to which the scores belong"
            unit = "counts in a spectrum" if self.hold_out == "simulated" else "times that of the training map"
            intensity = f"{self.relative_intensity:.4g} {unit}"
        error = f"{self.error:.3g} ± {self.error_standard_error:.2g} in units of the noise, {bias:.0%} of it bias"
        if self.error < self.error_standard_error:  # an estimate of what is small may be negative
            error = f"below {self.error + 2 * self.error_standard_error:.2g} in units of the noise"
        return [
            ("chosen", f"{self.chosen}, of the candidates with context={self.context!r}"),
            ("noise", f"{self.noise_reduction:.3g} times less; {self.noise_model['name']} noise"),
            ("error left", f"{error}; the signal varies by {self.signal_variance:.3g}"),
            ("hold-out", self._hold_out()),
            *self._counts(),
            ("totals", f"counts averaged over {self.averaged:g} pixels" if self.averaged else ""),
            ("intensity", intensity),
            ("learnt from", f"{self.n_sampled} spectra{where}"),
            ("resampled", f"from {self.resampled_from}" if self.resampled_from else ""),
            *self._learning(),
        ]

    def _training(self) -> str:
        if not self.n_steps:
            return "interrupted: the candidates that were ready until then" if self.interrupted else ""
        how = "" if self.corruption == "split" else f", inputs by {self.corruption}"
        return f"step {self.best_step} of {self.n_steps} ({self._stop(self.n_steps)}){how}"

    def rows(self) -> tuple[Row, list[Row]]:
        """Return the candidates, the best on the validation fold first."""
        head, rows = super().rows()
        order = sorted(range(len(rows)), key=lambda i: self.candidates[i].validation_score)
        return head, [rows[i] for i in order]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
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

    method = "anomaly_map"
    score_name = "held-out deviance of a patch"
    mark = "reference model"

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
        patches = f"{self.patch_side} pixels along the side; {self.patches_left_out} left out as possibly rare"
        drift = self.drift and f"scan lines moved by {min(self.drift):+.3g} to {max(self.drift):+.3g}"
        return [
            ("statistic", self.statistic),
            ("regions", self.threshold),
            ("reference model", f"{self.model}, {self.n_components} components"),
            *self._origin("learnt from", ", with its errors and its null distribution"),
            ("patches", patches if self.patch_side > 1 else ""),
            ("noise model", self._noise()),
            *self._counts(),
            ("windows", f"{self.n_windows} of energy"),
            ("p-values", "" if self.smallest_p is None else f"extrapolated below {self.smallest_p:.1g}"),
            ("drift", drift or ""),
            *self._learning(),
        ]

    def words(self) -> list[str]:
        """Return how the autoencoder compares with PCA; nothing where none was trained."""
        if not self.candidates:
            return []
        network = self.candidates[0]
        if network.difference < -CLEAR * network.standard_error:
            return [f"{network.name} describes sums over neighbouring pixels better than PCA of the same size."]
        return [f"{network.name} does not describe sums over neighbouring pixels clearly better than PCA."]
