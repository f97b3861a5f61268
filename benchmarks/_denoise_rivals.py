"""Rivals of `denoise_dae`: PCA whose score maps are filtered, at every rank and strength."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
WIDTHS = (0.5, 0.65, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0)
VARIATIONS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
NON_LOCAL = tuple((patch, h) for patch in (3, 5) for h in (0.3, 0.45, 0.6, 0.8, 1.0))
_HELD = 0.15  # of the counts choose for the rivals


def error_of(estimate: np.ndarray, clean: np.ndarray) -> float:
    """Return RMSE over the standard deviation of the truth."""
    import numpy as np

    return float(np.sqrt(np.mean((estimate - clean) ** 2, dtype=np.float64)) / clean.std())


def rivals(counts: np.ndarray, clean: np.ndarray, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the error of each family at its best, and that of the rival that held-out counts choose."""
    import numpy as np

    rng = np.random.default_rng(seed)
    held = rng.binomial(counts, _HELD).astype(np.float32)
    whole, rest = Pca(counts.astype(np.float32)), Pca((counts - held) / np.float32(1 - _HELD))
    known: dict[str, float] = {}
    scored: list[tuple[float, str, float]] = []
    goal = rest.project(held / np.float32(_HELD))
    truth = whole.project(clean)
    outside = float(np.sum(clean.astype(np.float64) ** 2))
    for (family, label, a), (_, _, b) in zip(
        filtered(whole.scores, whole.noise), filtered(rest.scores, rest.noise / np.sqrt(1 - _HELD)), strict=True
    ):
        error = whole.error(a, truth, clean, outside)
        k = b.shape[-1]
        held_out = float(np.mean(np.sum(b * (b - 2 * goal[..., :k]), axis=-1)))
        known[family] = min(error, known.get(family, np.inf))
        scored.append((held_out, label, error))
    _, label, error = min(scored)
    return known, {"which": label, "error": error}


class Pca:
    """Noise-weighted, uncentred PCA of a map."""

    def __init__(self, counts: np.ndarray) -> None:
        import numpy as np

        rows = counts.reshape(-1, counts.shape[-1])
        mean = rows.mean(axis=0, dtype=np.float64)
        self.weights = (1 / np.sqrt(np.maximum(mean, 1e-3 * mean.mean()))).astype(np.float32)
        white = rows * self.weights
        _, vectors = np.linalg.eigh((white.T @ white).astype(np.float64))
        self.vectors = vectors[:, : -max(RANKS) - 1 : -1].astype(np.float32)
        self.shape = counts.shape[:-1]
        self.scores = self.project(counts)
        self.noise = 1.0
        self.spectra = (self.vectors / self.weights[:, None]).T  # (P, E)
        self.gram = (self.spectra @ self.spectra.T).astype(np.float64)

    def project(self, values: np.ndarray) -> np.ndarray:
        rows = values.reshape(-1, values.shape[-1])
        return ((rows * self.weights) @ self.vectors).reshape(*self.shape, -1)

    def error(self, scores: np.ndarray, truth: np.ndarray, clean: np.ndarray, power: float) -> float:
        """Return the relative error of spectra of (*navigation, k) scores, without making the spectra."""
        import numpy as np

        k = scores.shape[-1]
        if not hasattr(self, "_along"):
            self._along = clean.reshape(-1, clean.shape[-1]) @ self.spectra.T  # (n, P)
        flat = scores.reshape(-1, k).astype(np.float64)
        square = np.sum((flat @ self.gram[:k, :k]) * flat) - 2 * np.sum(flat * self._along[:, :k]) + power
        return float(np.sqrt(max(square, 0) / clean.size) / clean.std())


def filtered(scores: np.ndarray, noise: float) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield family, name and filtered scores, of every rank and strength."""
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    def each(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([function(scores[..., k]) for k in range(scores.shape[-1])], axis=-1)

    for k in RANKS:
        yield "pca", f"pca ({k})", scores[..., :k]
    for width in WIDTHS:
        blurred = gaussian_filter(scores, (width, width, 0))
        for k in RANKS:
            yield "gaussian", f"pca ({k}), gaussian {width:g}", blurred[..., :k]
    for weight in VARIATIONS:
        smooth = each(partial(denoise_tv_chambolle, weight=weight * noise, eps=1e-3, max_num_iter=100))
        for k in RANKS:
            yield "total variation", f"pca ({k}), total variation {weight:g}", smooth[..., :k]
    for k in RANKS:
        for patch, h in NON_LOCAL:
            alike = denoise_nl_means(
                scores[..., :k], patch_size=patch, patch_distance=9, h=h * noise, sigma=noise, fast_mode=True,
                channel_axis=-1,
            )  # fmt: skip
            yield ("non-local means", f"pca ({k}), non-local means {patch}, {h:g}", alike.reshape(*scores.shape[:2], k))
    try:
        import bm3d
    except ImportError:
        return
    for strength in (0.7, 1.0, 1.4):
        blocks = each(partial(bm3d.bm3d, sigma_psd=strength * noise))
        for k in RANKS:
            yield "BM3D", f"pca ({k}), BM3D {strength:g}", blocks[..., :k]
