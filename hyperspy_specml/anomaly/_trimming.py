"""Fit PCA to patches of pixels without those that may contain something rare.

The scan sums over neighbouring pixels and sees deviations that no single pixel shows. So the reference model
is learnt from sums over patches of pixels: they separate its weak components from noise, and a rare phase
stands out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._components import (
    ComponentChoice,
    choose_components,
    largest_contribution,
    robust_distance,
)
from hyperspy_specml.anomaly._errors import noise_of_sums
from hyperspy_specml.anomaly._reference import ReferenceModel
from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.models import LinearModel
from hyperspy_specml.statistics import moments_of, principal_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel, Windows

# Channels, standard deviations of the smoothing of components that are tried: noise of the components
# themselves would be found in all pixels.
_SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)
# Smoothing relative to the narrowest window, at most: with more, blurred lines would be found.
_SMOOTHEST = 1 / 16
# Rounds of leaving out patches and fitting anew.
_ROUNDS = 2
# Squared deviates above which a patch is left out, relative to the one that 5 % of the patches exceed:
# extremes of what is ordinary are below.
_RARE = 3.0
# The same for patches that come back: of their strongest window, and of their distance.
_DESCRIBED, _FARTHEST = 2.0, 12.0
# Patches along the side of a place that may be the only one with a phase.
_PLACE = 3
# Fraction of a direction of the spectra above which a place alone is behind a component, and how many times
# its part of the map this must be: noise reaches a few times.
_ALONE = 0.5
_TIMES_ITS_PART = 15
# Part of the full patch whose pixels must be there, so that the last scan line of a map, where a drift ends,
# counts.
_LEAST_PART = 1 / 3


@dataclass(frozen=True)
class PatchSums:
    r"""Sums over patches of pixels.

    Attributes
    ----------
    sums, counts
        (\*patches, E) summed spectra and (\*patches,) the number of pixels in each.
    side
        Pixels along the side of a full patch.
    """

    sums: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    side: int

    @property
    def used(self) -> np.ndarray:
        r"""(\*patches,) bool, the patches with enough pixels."""
        return self.counts >= max(1, self.side**self.counts.ndim * _LEAST_PART)


@dataclass(frozen=True)
class LearningTask:
    """What a reference model is learnt for, beside the patches.

    Attributes
    ----------
    noise
        Noise model of one pixel.
    windows, line_width
        Windows of energy, and (E,) the full width at half maximum of a line in channels.
    n_components
        Number of components; None chooses it by held-out score, anew after each round of leaving out patches.
    n_spare
        Components to add where they cost little.
    known
        (N, E) spectra that the model has to describe, however rare they are; None for none.
    shift_smoothing
        Standard deviation, in channels, of the Gaussian whose derivative shifted spectra are compared with;
        None does not search for shifts.
    autoencoder
        Trained on the same patches; None for PCA alone.
    only_if_better
        Whether the autoencoder is taken only where it is clearly better than PCA.
    """

    noise: NoiseModel
    windows: Windows
    line_width: np.ndarray
    n_components: int | None = None
    n_spare: int = 0
    known: np.ndarray | None = None
    shift_smoothing: float | None = None
    autoencoder: Autoencoder | None = None
    only_if_better: bool = False


@dataclass(frozen=True)
class Trimming:
    """Fits PCA to patches, and leaves those out that may be rare."""

    patches: PatchSums
    task: LearningTask
    run: Run

    @property
    def noise_of_sum(self) -> NoiseModel:
        """Noise model of the sum over a patch."""
        counts = self.patches.counts
        return noise_of_sums(self.task.noise, float(np.median(counts[counts > 0])))

    def fit(
        self, keep: np.ndarray, smoothings: Sequence[float], n_components: int | None
    ) -> tuple[ReferenceModel, ComponentChoice]:
        """Fit PCA to the patches that are kept."""
        rows, noise, task = self.patches.sums[keep], self.noise_of_sum, self.task
        choice = choose_components(rows, noise, smoothings, n_components, seed=self.run.seed)
        basis = principal_basis(moments_of(rows), noise, n_vectors=choice.n_components, smoothing=choice.smoothing)
        n_spectra = int(self.patches.counts[keep].sum())
        reference = ReferenceModel(LinearModel(basis), task.noise, n_spectra, self.patches.side)
        return reference if task.known is None else reference.with_reference_spectra(task.known), choice

    def fit_without_rare(self) -> tuple[ReferenceModel, np.ndarray, ComponentChoice]:
        """Return PCA, the patches that it was fitted to, and the choice of its components."""
        task, progress = self.task, self.run.progress
        keep = self.patches.used.copy()
        smoothings = tuple(s for s in _SMOOTHINGS if s <= _SMOOTHEST * task.windows.widths.min())
        for i in range(_ROUNDS):
            reference, choice = self.fit(keep, smoothings, task.n_components)
            smoothings = (choice.smoothing,)  # a property of the data, not of the patches that are left
            keep &= ~self.rare(reference, keep)
            progress.advance((i + 1) / (_ROUNDS + 2))
        reference, choice = self.fit(keep, smoothings, task.n_components)
        back = self.described(reference, keep)
        n = task.n_components or choice.with_spare(task.n_spare)
        if back.any() or n > choice.n_components:
            keep |= back
            reference, _ = self.fit(keep, smoothings, n)
        return reference, keep, replace(choice, n_components=n)

    def rare(self, reference: ReferenceModel, keep: np.ndarray) -> np.ndarray:
        """Return the patches that the model does not describe, or that alone are behind one component.

        The first contain what the model lacks. The second contain something rare that the model has learnt:
        along that component they lie far from all others. Where ordinary spectra lie far apart, such as
        grains of a few phases, they do not; but then the component exists because of one place.
        """
        strength, distance = self._strength_and_distance(reference)
        return self.patches.used & (
            (strength > _RARE * _exceeded_by_5_percent(strength, keep))
            | (distance > _RARE * _exceeded_by_5_percent(distance, keep))
            | self._alone(reference, keep)
        )

    def _alone(self, reference: ReferenceModel, keep: np.ndarray) -> np.ndarray:
        """Return the patches in the middle of places without which the model would lack a component.

        Patches beside something rare are included: the little of it that reaches into one would make the
        component again.
        """
        part = _PLACE**keep.ndim / keep.sum()
        scores = np.zeros((*keep.shape, reference.basis.n_vectors))
        scores[keep] = reference.coefficients(self.patches.sums[keep])
        return largest_contribution(scores, _PLACE) > max(_ALONE, _TIMES_ITS_PART * part)

    def described(self, reference: ReferenceModel, keep: np.ndarray) -> np.ndarray:
        """Return the patches left out that the model describes all the same, without having learnt them.

        They are extremes of what is ordinary, such as a scan line that drifted far. If they lie very far
        away, the model may have learnt something rare from a patch that was kept.
        """
        strength, distance = self._strength_and_distance(reference)
        near = (strength <= _DESCRIBED * _exceeded_by_5_percent(strength, keep)) & (
            distance <= _FARTHEST * _exceeded_by_5_percent(distance, keep)
        )
        return self.patches.used & ~keep & near

    def _strength_and_distance(self, reference: ReferenceModel) -> tuple[np.ndarray, np.ndarray]:
        """Return maps of the square of the strongest window, and of the distance of the composition."""
        used, shape = self.patches.used, self.patches.counts.shape
        rows = np.where(used[..., None], self.patches.sums, 0)
        flat = reference.coefficients(rows.reshape(-1, rows.shape[-1]))
        coefficients = np.where(used[..., None], flat.reshape(*shape, -1), 0)
        model = replace(reference.scan_model(), noise=self.noise_of_sum)
        scan = Scan(model, self.task.windows, radii=(0,))
        strength = np.square(scan.strongest(rows, coefficients, used).z)
        total = rows[used].sum(axis=1)
        distance = np.zeros(shape)
        distance[used] = robust_distance(coefficients[used] / np.maximum(total, 1e-3 * total.mean())[:, None])
        return strength, distance


def _exceeded_by_5_percent(squares: np.ndarray, keep: np.ndarray) -> float:
    return float(np.quantile(squares[keep], 0.95))
