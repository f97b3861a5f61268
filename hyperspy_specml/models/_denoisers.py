r"""Fitted denoisers: from score maps to score maps, on arrays. No fitting here.

T tiles, P components, S filters, E channels in use. Maps are (T, \*tile, P) on the scale of the whole data;
`fraction` is the share of the training map's counts that they were made of: their noise variance is
``noise**2 / fraction``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperspy_specml.lazy import torch
from hyperspy_specml.models._base import FittedModel, Parts, parts_of, prefixed
from hyperspy_specml.models._filters import MOST_SCAN_AXES, Filter, Maps, filters, plan_halos
from hyperspy_specml.models._networks import LatentModel, loaded, tensor_for
from hyperspy_specml.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from hyperspy_specml.nn import FilterMixture, Shrinkage
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis

# Smallest total of a spectrum, relative to the mean total, by which its scores are divided: below, noise alone
# would set its shape.
_LEAST_TOTAL = 1e-3
# Arrays of the size of the filtered maps that a network of maps holds at a time: its input and hidden layers.
_NETWORK_COPIES = 8
# Smallest number of pixels denoised at a time: smaller boxes would consist of their halo only.
_LEAST_BOX = 4096
# Smallest noise variance along a basis vector, relative to independent noise: an estimated correlation of
# neighbouring channels may make it zero or negative.
_LEAST_VARIANCE = 0.05


class FittedDenoiser(FittedModel):
    """A fitted denoiser. Its scores are those along its basis: noisy ones go in, denoised ones come out.

    `encode` leaves them as they are: `denoise` may need their neighbours.

    Attributes
    ----------
    n_scan_axes
        Scan axes that it sees at once; 0 for one spectrum at a time.
    floats
        Numbers of 4 bytes that `denoise` needs for each pixel: so many times P, and so many.
    """

    n_scan_axes: int
    floats: ClassVar[tuple[int, int]]

    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        r"""Return denoised score maps, float32.

        Parameters
        ----------
        maps, valid
            (T, \*tile, P) score maps, 0 where not valid, and (T, \*tile) bool.
        fraction
            Counts of the maps over those of the training map.
        """
        out = np.zeros(maps.shape, np.float32)
        out[valid] = self.denoise_rows(maps[valid], fraction)
        return out

    def denoise_rows(self, scores: np.ndarray, fraction: float = 1.0) -> np.ndarray:
        """Return (n, P) denoised scores of single spectra; see `denoise`."""
        raise NotImplementedError

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * (self.floats[0] * self.basis.n_vectors + self.floats[1])

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps whose noise along the basis has these (P,) standard deviations."""
        return replace(self, noise=noise) if "noise" in self.stored else self  # type: ignore[type-var]

    def denoise_map(self, scores: np.ndarray, valid: np.ndarray, memory_budget: int, progress: Progress) -> np.ndarray:
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
        boxes = plan_halos(shape, max(_LEAST_BOX, memory_budget // self.bytes_per_pixel()))
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
    floats, n_scan_axes = (2, 0), 0

    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        """Return the maps."""
        return maps


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
    stored = ("noise", "centre", "spread", "weights")

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
        self, maps: np.ndarray, valid: np.ndarray, fraction: float, bank: Sequence[Filter], bar: Progress | None = None
    ) -> np.ndarray:
        r"""Return (S, T, \*tile, P) filtered maps with noise of variance 1, 0 where not valid.

        The filters make up the current stage of a progress; by default they do not count.
        """
        unit = self.unit(fraction)
        centre, values = (self.centre / unit).astype(np.float32), maps / unit
        tiles = [Maps(own, there, centre, self.n_strong) for own, there in zip(values, valid, strict=True)]
        stack = np.empty((len(bank), *maps.shape), np.float32)
        for step in (bar or Progress()).steps(range(len(bank) * len(tiles))):
            t, s = divmod(step, len(bank))
            stack[s, t] = bank[s].function(tiles[t])
        stack *= valid[..., None]
        return stack

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

    def _filters(self) -> tuple[Filter, ...]:
        bank = filters(self.n_scan_axes)
        used = self.weights.any(axis=1) | (self.network is not None)
        return tuple(bank[i] for i in np.flatnonzero(used))

    def settings(self) -> dict[str, Any]:
        """Return sizes, and the names of the filters that the weights belong to."""
        names, network = [one.name for one in filters(self.n_scan_axes)], self.network
        sizes = {"n_strong": self.n_strong, "n_scan_axes": self.n_scan_axes}
        return sizes | {"filters": names, "n_hidden": network.conv1.out_channels if network else 0}

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
            from hyperspy_specml.nn import FilterMixture

            network = loaded(lambda: FilterMixture(n_axes, len(known), p, n_hidden), parts)
        noise, spread = (parts.array(name, p, positive=True) for name in ("noise", "spread"))
        weights, n_strong = parts.array("weights", len(known), p), parts.size("n_strong", least=0, most=p)
        return cls(basis, noise, parts.array("centre", p), spread, weights, n_strong, n_axes, network)


@dataclass(frozen=True)
class SpectralDenoiser(FittedDenoiser):
    """An autoencoder that sees one spectrum at a time.

    Attributes
    ----------
    autoencoder
        Trained on the noise of its map.
    """

    autoencoder: LatentModel
    kind = "spectral"
    floats, n_scan_axes = (4, 512), 0

    @property
    def basis(self) -> PrincipalBasis:  # type: ignore[override]  # read only here as everywhere
        """The P vectors of the scores."""
        return self.autoencoder.basis

    def denoise_rows(self, scores: np.ndarray, fraction: float = 1.0) -> np.ndarray:
        """Return (n, P) denoised scores."""
        return self.autoencoder.denoise_scores(scores)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of spectra in other channels; see `FittedModel`."""
        return replace(self, autoencoder=self.autoencoder.resampled(resample))

    def settings(self) -> dict[str, Any]:
        """Return those of the autoencoder."""
        return {"autoencoder": parts_of(self.autoencoder).settings}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return those of the autoencoder."""
        return prefixed("autoencoder", self.autoencoder.arrays())

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the denoiser with these settings and arrays."""
        model = parts.within("autoencoder").model()
        if not isinstance(model, LatentModel):
            raise ValueError(f"kind of model {model.kind!r} is no autoencoder")
        return cls(model)


@dataclass(frozen=True)
class LibraryDenoiser(FittedDenoiser):
    """A network that knows the shapes of a library, and is told the noise of every spectrum.

    Scores are those of spectra whose total is 1 on average.

    Attributes
    ----------
    basis
        The P principal vectors of the library.
    noise
        (P,) standard deviation of the noise along them in a spectrum of total 1.
    centre, variance
        (P,) mean and variances of the clean scores of spectra of total 1.
    levels
        (2,) smallest and largest noise of the training.
    network
        From noisy to clean scores.
    """

    basis: PrincipalBasis
    noise: np.ndarray
    centre: np.ndarray
    variance: np.ndarray
    levels: np.ndarray
    network: Shrinkage
    kind = "library"
    stored = ("noise", "centre", "variance", "levels")
    floats, n_scan_axes = (6, 1024), 0

    def denoise_rows(self, scores: np.ndarray, fraction: float = 1.0) -> np.ndarray:
        """Return (n, P) denoised scores of (n, P) scores.

        Parameters
        ----------
        scores
            Of spectra with a total of about 1.
        fraction
            Counts of the spectra over what `noise` belongs to.
        """
        total = self.totals(scores)
        level = np.sqrt(np.mean(self.noise**2) / (fraction * total))
        values = (scores / total - self.centre, np.clip(level, *self.levels), self.variance)
        with torch.inference_mode():
            clean = self.network(*(tensor_for(self.network, value) for value in values)).cpu().numpy()
        return ((clean + self.centre) * total).astype(np.float32)

    def totals(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n, 1) totals of spectra with (n, P) scores."""
        return np.maximum(scores @ self.basis.components().sum(axis=1), _LEAST_TOTAL)[:, None]

    def settings(self) -> dict[str, Any]:
        """Return width and number of the hidden layers."""
        linear = [layer for layer in self.network.mlp if isinstance(layer, torch.nn.Linear)]
        return {"n_hidden": linear[0].out_features, "n_layers": len(linear) - 1}

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the denoiser with these settings and arrays."""
        from hyperspy_specml.nn import Shrinkage

        basis, levels = parts.basis(), parts.array("levels", 2, positive=True)
        if levels[0] > levels[1]:
            raise ValueError("array 'levels' does not rise")
        p, sizes = basis.n_vectors, (parts.size("n_hidden", most=1 << 12), parts.size("n_layers", most=64))
        noise, variance = (parts.array(name, p, positive=True) for name in ("noise", "variance"))
        network = loaded(lambda: Shrinkage(p, *sizes), parts)
        return cls(basis, noise, parts.array("centre", p), variance, levels, network)


def noise_along(basis: PrincipalBasis, noise: NoiseModel, mean: np.ndarray) -> np.ndarray:
    """Return the (P,) standard deviations of the noise along a basis, for spectra of this (E,) mean.

    1 for independent noise; where neighbouring channels share noise, smooth vectors hold more of it.
    """
    loading = basis.vectors * (basis.weights * np.sqrt(noise.variance(mean)))[:, None]  # (E, P)
    variance = np.sum(loading**2, axis=0)
    for lag, correlation in enumerate(noise.correlation[1 : len(loading)], start=1):
        variance += 2 * correlation * np.sum(loading[lag:] * loading[:-lag], axis=0)
    return np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
