"""Measured maps: part of the counts is denoised, and the Poisson deviance to the others tells how well.

``velox``: the sums of five frames each, of a real detector. ``minerals``: counts thinned to 50, 20 and 5 %,
against the rest. Predictions are floored at 1e-3 of the mean of each channel, the same for all.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from benchmarks._maps import FOLDER
from benchmarks._records import Table

if TYPE_CHECKING:
    import numpy as np

FILES = {
    "velox": "hyperspy-1.7.6/fei_SI_SuperX-HAADF_10frames_10x50.emd",
    "minerals": "espm/88_ES-LP_G8_selection2_cropped2.hspy",
}
METHODS = ("raw", "pca", "pca, gaussian", "auto")
_LOWEST = 0.2  # keV: a peak of electronic noise lies below
_SHARES = (0.5, 0.2, 0.05)
_WIDTHS = (0.5, 0.7, 1.0, 1.4, 2.0)  # pixels


def measure() -> list[Table]:
    """Measure."""
    results: dict[str, Any] = {}
    for name, file in FILES.items():
        if not (FOLDER / file).is_file():
            print(f"{name} is left out: the folder of measured maps has no {file} (set SPECML_DATA to it)")
            continue
        for label, seen, rest in _velox(FOLDER / file) if name == "velox" else _minerals(FOLDER / file):
            results[label] = _deviances(seen, rest)
    rows = [[label, *(f"{found[m]:.1f}" for m in METHODS), found["chosen"]] for label, found in results.items()]
    return [Table("deviance", "per pixel, to the other counts", ["map", *METHODS, "chosen"], rows)]


def _velox(path: Any) -> list[tuple[str, Any, np.ndarray]]:
    import hyperspy.api as hs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = next(s for s in hs.load(path, sum_frames=False) if s.axes_manager.signal_dimension == 1)
    frames = frames.isig[_LOWEST:]
    odd, even = _halves(frames)
    return [("velox, 5 of 10 frames", odd, even.data), ("velox, the other 5 frames", even, odd.data)]


def _halves(frames: Any) -> tuple[Any, Any]:
    """Return the sums of every second frame; the frames are the slowest axis of the array."""
    whole = frames.sum(axis="Time")
    halves = []
    for start in (0, 1):
        half = whole.deepcopy()
        half.data = frames.data[start::2].sum(axis=0)
        halves.append(half)
    return halves[0], halves[1]


def _minerals(path: Any) -> list[tuple[str, Any, np.ndarray]]:
    import hyperspy.api as hs
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = hs.load(path)
    found = []
    for share in _SHARES:
        seen = whole.deepcopy()
        seen.data = np.random.default_rng(0).binomial(whole.data, share).astype(np.uint8)
        found.append((f"minerals, {share:.0%} of the counts", seen, whole.data - seen.data))
    return found


def _deviances(seen: Any, rest: np.ndarray) -> dict[str, Any]:
    import numpy as np
    from scipy.ndimage import gaussian_filter

    import hyperspy_specml as specml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = seen.denoise_dae(show_progressbar=False)
        pca = seen.decomposition_ae(architecture="pca", show_progressbar=False).reconstruction.data
    factor = rest.sum() / seen.data.sum()

    def deviance(values: np.ndarray) -> float:
        return _deviance(rest, factor * np.nan_to_num(values.astype(np.float64)))

    # A filter of score maps is one of the spectra. Its best width is chosen knowing the other counts.
    smooth = min(deviance(gaussian_filter(np.nan_to_num(pca), (width, width, 0))) for width in _WIDTHS)
    found: dict[str, Any] = {
        "raw": deviance(seen.data),
        "pca": deviance(pca),
        "pca, gaussian": smooth,
        "auto": deviance(clean.data),
    }
    return found | {"chosen": specml.denoise_report(clean).chosen}


def _deviance(counts: np.ndarray, mean: np.ndarray) -> float:
    import numpy as np
    from scipy.special import xlogy

    rows, mean = counts.reshape(-1, counts.shape[-1]), mean.reshape(-1, counts.shape[-1])
    floor = rows.mean(axis=0)
    mean = np.maximum(mean, 1e-3 * np.maximum(floor, 1e-2 * floor.mean()))
    return float(2 * np.mean(np.sum(xlogy(rows, rows / mean) - rows + mean, axis=1)))
