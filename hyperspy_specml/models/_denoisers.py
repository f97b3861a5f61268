r"""Fitted denoisers: from score maps to score maps, on arrays. No fitting here.

T tiles, P components, S filters. Maps are (T, \*tile, P) on the scale of the whole data; `share` is the part
of the training map's dose that they were made of: their noise variance is ``noise**2 / share``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from hyperspy_specml.models._filters import HALO, Filter, filter_stack, filters
from hyperspy_specml.models._tiles import MOST_SCAN_AXES, plan_halos

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.models._latent import DenseModel
    from hyperspy_specml.nn import FilterMixture, Shrinkage
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis

_LEAST_TOTAL = 1e-3  # of the mean total: fainter spectra have no shape
_COPIES = 8  # of the filtered maps that a network makes on the way


class Denoiser(Protocol):
    """What a fitted denoiser can do."""

    @property
    def kind(self) -> str:
        """Name, for model files."""
        ...

    @property
    def basis(self) -> PrincipalBasis:
        """The P axes of the scores."""
        ...

    @property
    def n_scan_axes(self) -> int:
        """Scan axes that it sees at once; 0 for one spectrum at a time."""
        ...

    def denoise(self, maps: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
        r"""Return denoised score maps, float32.

        Parameters
        ----------
        maps, valid
            (T, \*tile, P) score maps, 0 where not valid, and (T, \*tile) bool.
        share
            Dose of the maps over that of the training map.
        """
        ...

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        ...

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps whose noise along the axes has these (P,) standard deviations."""
        ...

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of the same spectra recorded in other channels.

        Parameters
        ----------
        resample
            From (n, E) to (n, E of the other channels), counts conserved.
        """
        ...


@dataclass(frozen=True)
class FilteredScores:
    """PCA with filtered score maps.

    Attributes
    ----------
    basis
        The P axes.
    noise
        (P,) standard deviation of the noise along the axes.
    centre, spread
        (P,) mean and standard deviation of the scores.
    weights
        (S, P) of the filters of `filters`, summing to one over them.
    n_strong
        Components that stand out of the noise without any filter.
    network
        Mixes the filters, or None: `weights` do, everywhere the same.
    n_scan_axes
        Of a tile: one to three.
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

    def denoise(self, maps: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
        """Return denoised score maps; see `Denoiser`."""
        bank = self._bank()
        stack = self.stack(maps, valid, share, bank)
        if self.network is None:
            needed = self.weights[self.weights.any(axis=1)]
            clean = np.einsum("s...p,sp->...p", stack, needed.astype(np.float32))
        else:
            clean = self.mixed(stack, valid, share)
        return (clean * self._unit(share)).astype(np.float32)

    def stack(
        self, maps: np.ndarray, valid: np.ndarray, share: float, bank: tuple[Filter, ...]
    ) -> np.ndarray:
        r"""Return (S, T, \*tile, P) filtered maps with noise of variance 1."""
        unit = self._unit(share)
        return filter_stack(maps / unit, valid, bank, centre=self.centre / unit, n_strong=self.n_strong)

    def mixed(self, stack: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
        """Return what the network makes of filtered maps, in their unit."""
        assert self.network is not None
        device = next(self.network.parameters()).device
        unit = self._unit(share)
        out = np.empty(stack.shape[1:], np.float32)
        centre, spread = (
            torch.as_tensor(v[None] / unit, dtype=torch.float32, device=device)
            for v in (self.centre, self.spread)
        )
        for t in range(len(out)):
            seen = torch.as_tensor(np.moveaxis(stack[:, t], -1, 1)[None].copy(), device=device)
            there = torch.as_tensor(valid[t][None, None], dtype=torch.float32, device=device)
            with torch.inference_mode():
                out[t] = np.moveaxis(self.network(seen, there, centre, spread)[0].cpu().numpy(), 0, -1)
        return out

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * len(self.noise) * (len(self._bank()) * (1 if self.network is None else _COPIES) + 4)

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps with this noise along the axes; see `Denoiser`."""
        return replace(self, noise=noise)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of spectra in other channels; see `Denoiser`."""
        return replace(self, basis=self.basis.resampled(resample))

    def _bank(self) -> tuple[Filter, ...]:
        bank = filters(self.n_scan_axes)
        if self.network is not None:
            return bank
        return tuple(f for f, used in zip(bank, np.any(self.weights, axis=1).tolist(), strict=True) if used)

    def _unit(self, share: float) -> np.ndarray:
        return (self.noise / np.sqrt(share)).astype(np.float32)


@dataclass(frozen=True)
class DenoisedSpectra:
    """A dense network that sees one spectrum at a time.

    Attributes
    ----------
    model
        The trained autoencoder.
    """

    model: DenseModel
    kind = "spectral"
    n_scan_axes = 0

    @property
    def basis(self) -> PrincipalBasis:
        """The P axes of the scores."""
        return self.model.basis

    def denoise(self, maps: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
        """Return denoised score maps; see `Denoiser`."""
        out = np.zeros(maps.shape, np.float32)
        out[valid] = self.denoise_rows(maps[valid])
        return out

    def denoise_rows(self, scores: np.ndarray) -> np.ndarray:
        """Return (n, P) denoised scores."""
        return self.model.decode_scores(self.model.encode_scores(scores))

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * (4 * self.basis.n_vectors + 512)

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return itself: the network has learnt its noise."""
        return self

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of spectra in other channels; see `Denoiser`."""
        return replace(self, model=self.model.resampled(resample))


@dataclass(frozen=True)
class Unchanged:
    """Plain PCA: its scores are kept as they are.

    Attributes
    ----------
    basis
        The P axes.
    """

    basis: PrincipalBasis
    kind = "pca"
    n_scan_axes = 0

    def denoise(self, maps: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
        """Return the maps."""
        return maps

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 8 * self.basis.n_vectors

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return itself."""
        return self

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of spectra in other channels; see `Denoiser`."""
        return replace(self, basis=self.basis.resampled(resample))


@dataclass(frozen=True)
class LibraryDenoiser:
    """A network that knows the shapes of a library, and is told the noise of every spectrum.

    Scores are those of spectra whose total is 1 on average.

    Attributes
    ----------
    basis
        The P principal axes of the library.
    noise
        (P,) standard deviation of the noise along the axes in a spectrum of total 1.
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
    n_scan_axes = 0

    def denoise(self, maps: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
        """Return denoised score maps; see `Denoiser`."""
        out = np.zeros(maps.shape, np.float32)
        out[valid] = self.denoise_rows(maps[valid], share=share)
        return out

    def denoise_rows(self, scores: np.ndarray, *, share: float = 1.0) -> np.ndarray:
        """Return (n, P) denoised scores of (n, P) scores.

        Parameters
        ----------
        scores
            Of spectra with a total of about 1.
        share
            Dose of the spectra over what `noise` belongs to.
        """
        total = self.totals(scores)
        level = np.sqrt(np.mean(self.noise**2) / (share * total))
        level = np.clip(level, *self.levels)
        device = next(self.network.parameters()).device
        values = (
            torch.as_tensor(value, dtype=torch.float32, device=device)
            for value in (scores / total - self.centre, level, self.variance)
        )
        with torch.inference_mode():
            clean = self.network(*values).cpu().numpy()
        return ((clean + self.centre) * total).astype(np.float32)

    def totals(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n, 1) totals of spectra with (n, P) scores."""
        return np.maximum(scores @ self.basis.components().sum(axis=1), _LEAST_TOTAL)[:, None]

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * (6 * self.basis.n_vectors + 1024)

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps with this noise along the axes; see `Denoiser`."""
        return replace(self, noise=noise)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of spectra in other channels; see `Denoiser`."""
        return replace(self, basis=self.basis.resampled(resample))


def noise_along(axes: PrincipalBasis, noise: NoiseModel, mean: np.ndarray) -> np.ndarray:
    """Return the (P,) standard deviations of the noise along axes, for spectra of this (E,) mean.

    1 for independent noise; where neighbouring channels share noise, smooth axes hold more of it.
    """
    loading = axes.vectors * (axes.weights * np.sqrt(noise.variance(mean)))[:, None]  # (E, P)
    variance = np.sum(loading**2, axis=0)
    for lag, correlation in enumerate(noise.correlation[1 : len(loading)], start=1):
        variance += 2 * correlation * np.sum(loading[lag:] * loading[:-lag], axis=0)
    return np.sqrt(np.maximum(variance, 0.05))


def denoise_map(
    denoiser: Denoiser, scores: np.ndarray, valid: np.ndarray, *, memory_budget: int
) -> np.ndarray:
    r"""Denoise the scores of a whole map, box by box, each seen with its surroundings.

    Parameters
    ----------
    denoiser
        Fitted.
    scores, valid
        (\*navigation, P), 0 where not valid, and (\*navigation,) bool.
    memory_budget
        Bytes that filters and networks may use on the way.
    """
    n_axes = denoiser.n_scan_axes or min(valid.ndim, MOST_SCAN_AXES)
    # Slower scan axes make one map each; a line is an image of one row to what has learnt from images.
    shape = (1,) * max(0, n_axes - valid.ndim) + valid.shape[-n_axes:]
    maps, there = scores.reshape(-1, *shape, scores.shape[-1]), valid.reshape(-1, *shape)
    out = np.empty(maps.shape, np.float32)
    n_pixels = max(4096, memory_budget // denoiser.bytes_per_pixel())
    for t in range(len(maps)):
        for region, seen, inner in plan_halos(shape, n_pixels, HALO):
            clean = denoiser.denoise(maps[t][seen][None], there[t][seen][None], 1.0)
            out[t][region] = clean[0][inner]
    return out.reshape(scores.shape)
