r"""Fitted denoisers: from score maps to score maps, on arrays. No fitting here.

T tiles, P components, S filters, E channels in use. Maps are (T, \*tile, P) on the scale of the whole data;
`fraction` is the share of the training map's counts that they were made of: their noise variance is
``noise**2 / fraction``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperspy_specml.models._base import FittedModel, Parts, basis_arrays
from hyperspy_specml.models._filters import HALO, Filter, filter_stack, filters
from hyperspy_specml.models._networks import loaded, network_arrays, tensor_for
from hyperspy_specml.models._tiles import MOST_SCAN_AXES, plan_halos
from hyperspy_specml.nn import FilterMixture

if TYPE_CHECKING:
    from typing import Self

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis

# Arrays of the size of the filtered maps that a network of maps holds at a time: its input and hidden layers.
_NETWORK_COPIES = 8
# Smallest number of pixels denoised at a time: smaller boxes would consist of their halo only.
_LEAST_BOX = 4096
# Smallest noise variance along a basis vector, relative to independent noise: an estimated correlation of
# neighbouring channels may make it zero or negative.
_LEAST_VARIANCE = 0.05


class FittedDenoiser(FittedModel):
    """A fitted denoiser. Its scores are those along its basis: noisy ones go in, denoised ones come out.

    Attributes
    ----------
    n_scan_axes
        Scan axes that it sees at once; 0 for one spectrum at a time.
    """

    n_scan_axes: int

    @property
    def n_components(self) -> int:
        """Number of components P."""
        return self.basis.n_vectors

    @abstractmethod
    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        r"""Return denoised score maps, float32.

        Parameters
        ----------
        maps, valid
            (T, \*tile, P) score maps, 0 where not valid, and (T, \*tile) bool.
        fraction
            Counts of the maps over those of the training map.
        """

    @abstractmethod
    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps whose noise along the basis has these (P,) standard deviations."""
        return self

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Return (n, P) scores as they are: `denoise` may need their neighbours."""
        return scores

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores to (n, E) spectra, float32."""
        return self.basis.spectra(np.asarray(scores, np.float32))

    def components(self) -> np.ndarray:
        """Return the (P, E) spectra that a score of one stands for, float64."""
        return self.basis.components()

    def denoise_map(
        self, scores: np.ndarray, valid: np.ndarray, *, memory_budget: int, progress: Progress
    ) -> np.ndarray:
        r"""Denoise the scores of a whole map, box by box, each seen with its surroundings.

        Parameters
        ----------
        scores, valid
            (\*navigation, P), 0 where not valid, and (\*navigation,) bool.
        memory_budget
            Bytes that filters and networks may use on the way.
        progress
            The boxes make up its current stage.

        Returns
        -------
        (\*navigation, P) float32
        """
        n_axes = self.n_scan_axes or min(valid.ndim, MOST_SCAN_AXES)
        # Slower scan axes make one map each; a line is an image of one row to what has learnt from images.
        shape = (1,) * max(0, n_axes - valid.ndim) + valid.shape[-n_axes:]
        maps, there = scores.reshape(-1, *shape, scores.shape[-1]), valid.reshape(-1, *shape)
        out = np.empty(maps.shape, np.float32)
        boxes = plan_halos(shape, max(_LEAST_BOX, memory_budget // self.bytes_per_pixel()), HALO)
        for step in progress.steps(range(len(maps) * len(boxes))):
            t, (region, seen, inner) = step // len(boxes), boxes[step % len(boxes)]
            out[t][region] = self.denoise(maps[t][seen][None], there[t][seen][None], 1.0)[0][inner]
        return out.reshape(scores.shape)


@dataclass(frozen=True)
class UnfilteredScores(FittedDenoiser):
    """Plain PCA: its scores are kept as they are.

    Attributes
    ----------
    basis
        The P principal vectors.
    """

    basis: PrincipalBasis
    kind = "unfiltered"
    n_scan_axes = 0

    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        """Return the maps."""
        return maps

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 8 * self.basis.n_vectors

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the denoiser with these arrays."""
        return cls(parts.basis())


@dataclass(frozen=True)
class FilteredScores(FittedDenoiser):
    """PCA with filtered score maps.

    Attributes
    ----------
    basis
        The P vectors.
    noise
        (P,) standard deviation of the noise along them.
    centre, spread
        (P,) mean and standard deviation of the scores.
    weights
        (S, P) of the filters of `filters`, summing to one over them.
    n_strong
        Components that stand out of the noise without any filter.
    n_scan_axes
        Of a tile: one to three.
    network
        Mixes the filters, or None: `weights` do, everywhere the same.
    """

    basis: PrincipalBasis
    noise: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    n_strong: int
    n_scan_axes: int
    network: FilterMixture | None = None
    kind = "filtered"

    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        """Return denoised score maps; see `FittedDenoiser`."""
        stack = self.stack(maps, valid, fraction, self._filters())
        if self.network is None:
            needed = self.weights[self.weights.any(axis=1)]
            clean = np.einsum("s...p,sp->...p", stack, needed.astype(np.float32))
        else:
            clean = self.mixed(stack, valid, fraction)
        return (clean * self.unit(fraction)).astype(np.float32)

    def stack(
        self, maps: np.ndarray, valid: np.ndarray, fraction: float, bank: tuple[Filter, ...],
        progress: Progress | None = None,
    ) -> np.ndarray:  # fmt: skip
        r"""Return (S, T, \*tile, P) filtered maps with noise of variance 1."""
        unit = self.unit(fraction)
        known = {"centre": self.centre / unit, "n_strong": self.n_strong}
        return filter_stack(maps / unit, valid, bank, progress=progress, **known)

    def mixed(self, stack: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        """Return what the network makes of filtered maps, in their unit."""
        network, unit = self.network, self.unit(fraction)
        assert network is not None
        out = np.empty(stack.shape[1:], np.float32)
        centre, spread = (tensor_for(network, v[None] / unit) for v in (self.centre, self.spread))
        for t in range(len(out)):
            seen = tensor_for(network, np.moveaxis(stack[:, t], -1, 1)[None])
            there = tensor_for(network, valid[t][None, None])
            with torch.inference_mode():
                out[t] = np.moveaxis(network(seen, there, centre, spread)[0].cpu().numpy(), 0, -1)
        return out

    def unit(self, fraction: float) -> np.ndarray:
        """Return the (P,) standard deviations of the noise of maps of a fraction of the counts."""
        return (self.noise / np.sqrt(fraction)).astype(np.float32)

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * len(self.noise) * (len(self._filters()) * (_NETWORK_COPIES if self.network else 1) + 4)

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps with this noise along the basis; see `FittedDenoiser`."""
        return replace(self, noise=noise)

    def _filters(self) -> tuple[Filter, ...]:
        bank = filters(self.n_scan_axes)
        if self.network is not None:
            return bank
        return tuple(f for f, used in zip(bank, np.any(self.weights, axis=1).tolist(), strict=True) if used)

    def settings(self) -> dict[str, Any]:
        """Return sizes, and the names of the filters that the weights belong to."""
        return {
            "n_strong": self.n_strong,
            "n_scan_axes": self.n_scan_axes,
            "filters": [one.name for one in filters(self.n_scan_axes)],
            "n_hidden": self.network.conv1.out_channels if self.network else 0,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return basis, moments of noise and scores, weights, and those of a network."""
        own = {name: getattr(self, name) for name in ("noise", "centre", "spread", "weights")}
        return basis_arrays(self.basis) | own | (network_arrays(self.network) if self.network else {})

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the denoiser with these settings and arrays."""
        basis = parts.basis()
        p, n_axes = basis.n_vectors, parts.size("n_scan_axes", most=MOST_SCAN_AXES)
        names, known = parts.setting("filters", list), [one.name for one in filters(n_axes)]
        if names != known:
            raise ValueError(f"its filters are {names!r:.200}, but this version has {known!r:.200}: train it anew")
        n_hidden = parts.size("n_hidden", least=0, most=1 << 12)
        network = None
        if n_hidden:
            network = loaded(lambda: FilterMixture(n_axes, len(known), p, n_hidden), parts)
        moments = parts.positive("noise", p), parts.array("centre", p), parts.positive("spread", p)
        weights, n_strong = parts.array("weights", len(known), p), parts.size("n_strong", least=0, most=p)
        return cls(basis, *moments, weights, n_strong, n_axes, network)


def noise_along(basis: PrincipalBasis, noise: NoiseModel, mean: np.ndarray) -> np.ndarray:
    """Return the (P,) standard deviations of the noise along a basis, for spectra of this (E,) mean.

    1 for independent noise; where neighbouring channels share noise, smooth vectors hold more of it.
    """
    loading = basis.vectors * (basis.weights * np.sqrt(noise.variance(mean)))[:, None]  # (E, P)
    variance = np.sum(loading**2, axis=0)
    for lag, correlation in enumerate(noise.correlation[1 : len(loading)], start=1):
        variance += 2 * correlation * np.sum(loading[lag:] * loading[:-lag], axis=0)
    return np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
