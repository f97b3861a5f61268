"""What phase maps are compared with: clusters of scores and latents, and how often a lazy map is read."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

# Rivals by the name of their column; all but HDBSCAN know the number of phases.
RIVALS = {
    "kmeans": "HyperSpy PCA + k-means",
    "mixture": "PCA + GMM",
    "smoothed": "blurred PCA + GMM",
    "hdbscan": "PCA + HDBSCAN",
    "nmf": "largest NMF",
}


def find(signal: BaseSignal, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return signal.phase_map(show_progressbar=False, **options)


def rivals(signal: BaseSignal) -> dict[str, np.ndarray]:
    """Return labels by the usual ways, of PCA scores for one intensity or of NMF; see `RIVALS`."""
    from skimage.filters import gaussian
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import NMF
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = signal.decomposition_ae(4, architecture="pca", show_progressbar=False).scores.data
        blurred = np.stack([gaussian(one, 1.0, mode="nearest") for one in scores])
        total = np.maximum(signal.data.sum(axis=-1), 1)
        flat, smooth = (
            (maps / over).reshape(4, -1).T
            for maps, over in ((scores, total), (blurred, gaussian(total.astype(float), 1.0, mode="nearest")))
        )
        flat, smooth = flat / flat.std(axis=0), smooth / smooth.std(axis=0)
        rows = signal.data.reshape(-1, signal.data.shape[-1]).astype(np.float32)
        parts = NMF(4, init="nndsvda", max_iter=100, random_state=0).fit_transform(rows[:, rows.any(axis=0)])
        return {
            "kmeans": hyperspy_clusters(signal),
            "mixture": GaussianMixture(4, n_init=3, random_state=0).fit_predict(flat),
            "smoothed": GaussianMixture(4, n_init=3, random_state=0).fit_predict(smooth),
            "hdbscan": HDBSCAN(min_cluster_size=50).fit_predict(flat),
            "nmf": (parts / np.maximum(parts.mean(axis=0), 1e-30)).argmax(axis=1),
        }


def hyperspy_clusters(signal: BaseSignal) -> np.ndarray:
    """Return the labels of HyperSpy's own PCA (of four components, scaled for counts) and k-means."""
    own = signal.deepcopy()
    own.change_dtype("float32")
    own.decomposition(True, output_dimension=4, print_info=False)
    own.cluster_analysis("decomposition", n_clusters=4, number_of_components=4, algorithm="kmeans", random_state=0)
    return np.asarray(own.learning_results.cluster_labels).argmax(axis=0)


def bent(signal: BaseSignal, truth: np.ndarray) -> dict[str, float]:
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dense = signal.decomposition_ae(4, architecture="dense", show_progressbar=False)
        latents, scores = (
            (maps := one.scores.data.reshape(4, -1).T / signal.data.sum(axis=-1).reshape(-1, 1)) / maps.std(axis=0)
            for one in (dense, dense.baseline)
        )
    counts, own = find(signal), find(signal, model=dense.model)
    labels = {
        "counts": counts.labels.data.ravel(),
        "latents": own.labels.data.ravel(),
        "mixture": GaussianMixture(3, n_init=3, random_state=0).fit_predict(latents),
        "hdbscan": HDBSCAN(min_cluster_size=50).fit_predict(latents),
        "pca": GaussianMixture(3, n_init=3, random_state=0).fit_predict(scores),
    }
    agree = {name: adjusted_rand_score(truth.ravel(), of) for name, of in labels.items()}
    return agree | {"n": len(counts.names), "n latents": len(own.names)}


def counted(signal: BaseSignal) -> tuple[BaseSignal, list[int]]:
    """Return a lazy copy of a signal, and a list with the number of spectra that were read of it."""
    import dask.array as da

    read, data = [0], signal.data.astype(np.uint16)  # as files hold counts

    def count(part: np.ndarray) -> np.ndarray:
        read[0] += int(np.prod(part.shape[:-1]))
        return part

    whole = da.from_array(data, chunks=(64, 64, data.shape[-1]))
    lazy = signal.as_lazy()
    lazy.data = whole.map_blocks(count, dtype=data.dtype, meta=data[:0, :0, :0])
    return lazy, read


def known_spectra(signal: BaseSignal, shares: np.ndarray) -> np.ndarray:
    """Return the labels of the largest shares of who knows the spectra, and which phases are within two pixels.

    Spectra are those of all pixels that are one phase alone. Shares are the most probable ones of the counts of each
    pixel, by expectation maximisation. Where one phase alone is near, nothing is to be found.

    Parameters
    ----------
    signal
        Counts of a (y, x) map.
    shares
        (y, x, K) true ones.
    """
    from scipy.ndimage import maximum_filter

    truth, n_phases = shares.argmax(axis=-1), shares.shape[-1]
    counts = signal.data.reshape(truth.size, -1).astype(np.float32)
    near = np.stack([maximum_filter(truth == k, 5) for k in range(n_phases)], axis=-1).reshape(-1, n_phases)
    alone = (shares.max(axis=-1) > 0.999).ravel()
    spectra = np.array([counts[alone & (truth.ravel() == k)].sum(axis=0) for k in range(n_phases)]) + 1e-3
    spectra = (spectra / spectra.sum(axis=1, keepdims=True)).astype(np.float32)
    border, found = near.sum(axis=1) > 1, near.argmax(axis=1)
    some, amounts = counts[border] + 1e-6 * spectra.mean(axis=0), near[border].astype(np.float32)  # none is empty
    for _ in range(100):
        amounts /= amounts.sum(axis=1, keepdims=True)
        amounts *= (some / np.maximum(amounts @ spectra, 1e-12)) @ spectra.T
    found[border] = amounts.argmax(axis=1)
    return found
