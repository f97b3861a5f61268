"""Learn what is normal in a map, so that what is rare does not become part of it.

A scan sums over neighbouring pixels and sees deviations that no single pixel shows. So the normal is learnt
from sums over patches of pixels: they tell weak components of it from noise, and a rare phase stands out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._autoencoder import Tried, try_network
from hyperspy_specml.anomaly._rank import Chosen, choose
from hyperspy_specml.anomaly._reference import Normal, design_of, enough_pixels, leverage_of, noise_of_sums
from hyperspy_specml.anomaly._robust import carried_alone, robust_distance
from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.models import LinearModel
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import moments_of, principal_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.anomaly._windows import Windows
    from hyperspy_specml.statistics import NoiseModel

_logger = logging.getLogger(__name__)

_SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)  # channels: noise of the axes themselves would be found everywhere
_SMOOTHEST = 1 / 16  # of the narrowest window: a blurred line would be found too
_ROUNDS = 2
_SCATTER = 0.99  # of the patches: their residuals tell the model's error; beyond may be what is looked for
_FAR = 3.0  # times the square that one patch in twenty exceeds: the ends of what is normal stay in
_NOT_LEARNT, _END = 2.0, 12.0  # the same, of the windows and the distance of patches that come back
_PLACE = 3  # patches along the side of a place that may be all there is of something
_ALONE = 0.5  # of a direction of the spectra: a place that carries more made it a component ...
_MORE_THAN_ITS_SHARE = 15  # ... if this is so many times its share of the map: noise carries a few times


def learn_normal(
    sums: np.ndarray, counts: np.ndarray, noise: NoiseModel, windows: Windows, *, side: int,
    n_components: int | None = None, spare: int = 0, known: np.ndarray | None = None,
    width: float | None = None, seed: int = 0, architecture: str = "pca", config: TrainConfig | None = None,
) -> Normal:  # fmt: skip
    r"""Fit PCA to patches of a map without those that may be rare.

    Parameters
    ----------
    sums, counts
        (\*patches, E) summed spectra and (\*patches,) the number of pixels in each.
    noise
        Noise model of one pixel.
    windows
        Of the scan.
    side
        Of a patch in pixels.
    n_components
        None chooses by held-out score, anew after each trimming. How smooth the axes are along energy is
        chosen once.
    spare
        Components to add, if they cost little.
    known
        (N, E) spectra that count as normal, however rare they are.
    width
        See `Normal.adapted_to`.
    seed
        Of the split into folds.
    architecture, config
        "pca"; "dense" trains an autoencoder on the same patches, with these settings, and "auto" takes it
        if it is clearly better. Errors of an autoencoder are not known yet, see `adapt_normal`.
    """
    patches = _Patches(
        sums, counts, enough_pixels(counts, side), side, noise,
        noise_of_sums(noise, float(np.median(counts[counts > 0]))), windows, known, seed,
    )  # fmt: skip
    normal, keep, rank, smoothing = patches.without_rare(n_components, spare)
    n_pixels = float(np.median(counts[keep]))
    if architecture != "pca":
        tried = _tried(
            sums[keep], n_pixels, patches.noise_of_sum, rank, smoothing, config or TrainConfig(), seed=seed,
            needed=architecture == "dense",
        )  # fmt: skip
        normal = replace(normal, tried=tried)
        if tried and (architecture == "dense" or tried.better):
            leverage = leverage_of(tried.model.basis.project(sums[keep]), rank) * np.sqrt(n_pixels)
            return replace(normal, model=tried.model, leverage=leverage)
    coefficients = normal.coefficients(sums[keep])
    normal = replace(normal, leverage=leverage_of(coefficients, rank))  # of patches
    design = design_of(coefficients, np.ones(int(keep.sum())))
    adapted = normal.adapted_to(
        sums[keep], design, patches.noise_of_sum, windows, share=_SCATTER, width=width
    )
    return replace(adapted, leverage=normal.leverage * np.sqrt(n_pixels))  # of pixels


def _tried(*patches: Any, needed: bool, **options: Any) -> Tried | None:
    """Return the autoencoder that was trained; None where it diverged and is not needed."""
    try:
        return try_network(*patches, **options)
    except TrainingDivergedError as error:
        if not needed:
            _logger.warning("anomaly_map(): PCA is the normal, as for the autoencoder %s", error)
            return None
        raise TrainingDivergedError(
            f"anomaly_map(architecture='dense'): {error}. Train more gently, config=specml.TrainConfig("
            "learning_rate=5e-4); PCA does not train: architecture='pca'."
        ) from error


@dataclass(frozen=True)
class _Patches:
    """Sums over patches, and how a model of the normal is fitted to some of them.

    Attributes
    ----------
    sums, counts, used
        Spectra, number of pixels, and whether there are enough of these.
    side
        Pixels along a patch.
    noise, noise_of_sum
        Of a pixel and of a patch.
    windows, known, seed
        See `learn_normal`.
    """

    sums: np.ndarray
    counts: np.ndarray
    used: np.ndarray
    side: int
    noise: NoiseModel
    noise_of_sum: NoiseModel
    windows: Windows
    known: np.ndarray | None
    seed: int

    def fit(
        self, keep: np.ndarray, widths: Sequence[float], n_components: int | None
    ) -> tuple[Normal, Chosen]:
        """Fit PCA to the patches that are kept."""
        rows = self.sums[keep]
        chosen = choose(rows, self.noise_of_sum, widths, n_components, seed=self.seed)
        basis = principal_basis(
            moments_of(rows), self.noise_of_sum, n_vectors=chosen.rank, smoothing=chosen.width
        )
        left_out = int((self.used & ~keep).sum())
        n_spectra = int(self.counts[keep].sum())
        normal = Normal(LinearModel(basis), self.noise, n_spectra, chosen.curve, left_out, self.side)
        return normal if self.known is None else normal.knowing(self.known), chosen

    def without_rare(self, n_components: int | None, spare: int) -> tuple[Normal, np.ndarray, int, float]:
        """Return PCA, the patches that it was fitted to, its rank, and how smooth its axes are."""
        keep = self.used.copy()
        widths = tuple(w for w in _SMOOTHINGS if w <= _SMOOTHEST * self.windows.widths.min())
        for _ in range(_ROUNDS):
            normal, chosen = self.fit(keep, widths, n_components)
            widths = (chosen.width,)  # of the data, not of the patches that are left
            keep &= ~self.suspicious(normal, keep)
        normal, chosen = self.fit(keep, widths, n_components)
        back = self.described(normal, keep)
        rank = n_components or chosen.with_spare(spare)
        if back.any() or rank > chosen.rank:
            keep |= back
            normal, _ = self.fit(keep, widths, rank)
        return replace(normal, rank=chosen.curve), keep, rank, chosen.width

    def suspicious(self, normal: Normal, keep: np.ndarray) -> np.ndarray:
        """Return the patches that the model does not describe, or that alone it describes in their way.

        The first hold what the model lacks. The second are rare things that the model has learnt: along their
        own axis they lie far from all others. Where what is normal lies far apart, grains of a few phases
        say, they do not; but then the component is there because of one place.
        """
        strength, distance = self._strangeness(normal)
        return self.used & (
            (strength > _FAR * _ordinary(strength, keep))
            | (distance > _FAR * _ordinary(distance, keep))
            | self._alone(normal, keep)
        )

    def _alone(self, normal: Normal, keep: np.ndarray) -> np.ndarray:
        """Return the patches in the middle of places without which the model would lack a component.

        So patches beside what is rare are left out too: the little of it that reaches into one would make the
        component again.
        """
        size = _PLACE**keep.ndim / keep.sum()
        most = max(_ALONE, _MORE_THAN_ITS_SHARE * size)
        scores = np.zeros((*keep.shape, normal.model.basis.n_vectors))
        scores[keep] = normal.coefficients(self.sums[keep])
        return carried_alone(scores, _PLACE) > most

    def described(self, normal: Normal, keep: np.ndarray) -> np.ndarray:
        """Return the patches left out that the model describes all the same, without having learnt them.

        They are ends of what is normal, a scan line that drifted far say. If they lie very far the model may
        have learnt something rare from a patch that was kept.
        """
        strength, distance = self._strangeness(normal)
        near = (strength <= _NOT_LEARNT * _ordinary(strength, keep)) & (
            distance <= _END * _ordinary(distance, keep)
        )
        return self.used & ~keep & near

    def _strangeness(self, normal: Normal) -> tuple[np.ndarray, np.ndarray]:
        """Return maps of the square of the strongest window, and of the robust distance of the shares."""
        used, shape = self.used, self.used.shape
        rows = np.where(used[..., None], self.sums, 0)
        flat = normal.coefficients(rows.reshape(-1, rows.shape[-1]))
        coefficients = np.where(used[..., None], flat.reshape(*shape, -1), 0)
        scan = Scan(replace(normal.scan_model(), noise=self.noise_of_sum), self.windows, halves=(0,))
        strength = np.square(scan.strongest(rows, coefficients, used).z)
        dose = rows[used].sum(axis=1)
        distance = np.zeros(shape)
        distance[used] = robust_distance(coefficients[used] / np.maximum(dose, 1e-3 * dose.mean())[:, None])
        return strength, distance


def _ordinary(squares: np.ndarray, keep: np.ndarray) -> float:
    return float(np.quantile(squares[keep], 0.95))
