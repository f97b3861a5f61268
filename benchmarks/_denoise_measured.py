"""Measured maps: part of the counts is denoised, and the Poisson deviance to the others tells how well.

``velox``: the sums of five frames each, of a real detector. ``minerals``: counts thinned to 50, 20 and 5 %,
against the rest. Predictions are floored at 1e-3 of the mean of each channel, the same for all.

``elements``: correlation of the maps of lines with those of the other counts, or of the next tilt of the same area.
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
_TILTS = ("openncem/tilt_0.bcf", "openncem/tilt_10.bcf")
_PART, _HIGHEST = slice(64, 192), 10.0  # pixels, and keV: the middle of the map
_COUNTS, _LINES, _BLURS = 20, 8, (1.0, 1.5, 2.0, 3.0)
_BLOCKS = 8  # along each side of a map, each left out once


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


def elements() -> list[Table]:
    """Correlate maps of the strongest lines with counts that were not seen."""
    import hyperspy.api as hs
    import numpy as np

    tables = []
    if (FOLDER / FILES["minerals"]).is_file():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = hs.load(FOLDER / FILES["minerals"])
        seen = whole.deepcopy()
        share = _COUNTS / whole.data.sum(axis=-1).mean()
        seen.data = np.random.default_rng(0).binomial(whole.data, share).astype(np.uint8)
        tables.append(
            _correlations(
                "minerals", f"thinned to {_COUNTS} counts per pixel, to the rest", seen, whole.data - seen.data
            )
        )
    if all((FOLDER / tilt).is_file() for tilt in _TILTS):
        seen, other = (hs.load(FOLDER / tilt)[-1].isig[_LOWEST:_HIGHEST] for tilt in _TILTS)
        tables.append(
            _correlations("tilt", "openncem, tilt 0, to tilt 10", seen.inav[_PART, _PART], _aligned(seen, other))
        )
    return tables


def _aligned(one: Any, other: Any) -> np.ndarray:
    """Return the part of the spectra of another tilt that lies where that of the first does."""
    import numpy as np

    images = [np.fft.rfft2(s.data.sum(axis=-1) - s.data.sum(axis=-1).mean()) for s in (one, other)]
    match = np.fft.irfft2(images[0] * images[1].conj())
    shift = np.unravel_index(match.argmax(), match.shape)
    return np.roll(other.data, shift, axis=(0, 1))[_PART, _PART]


def _correlations(name: str, caption: str, seen: Any, rest: np.ndarray) -> Table:
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from scipy.signal import find_peaks

    import hyperspy_specml as specml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = seen.denoise_dae(show_progressbar=False)
    rivals = [_leading(gaussian_filter(seen.data.astype(np.float32), (width, width, 0))) for width in _BLURS]
    spectrum = gaussian_filter(rest.sum(axis=(0, 1)).astype(float), 3)
    peaks, found = find_peaks(spectrum, prominence=np.sqrt(spectrum.max()))
    strongest = np.sort(peaks[np.argsort(-found["prominences"])[:_LINES]])
    rows = []
    for peak in strongest:
        window = slice(peak - 4, peak + 5)
        goal = rest[..., window].sum(axis=-1).ravel()
        maps = [v[..., window].sum(axis=-1).ravel() for v in (seen.data, clean.data, *rivals)]
        values = [_correlation(one, goal) for one in maps]
        best = 2 + int(np.argmax(values[2:]))
        error = _error_of_difference(maps[1], maps[best], goal, seen.data.shape[:2])
        energy = seen.axes_manager[-1].index2value(int(peak))
        cells = [*(f"{values[i]:.3f}" for i in (0, 1, best)), f"{values[1] - values[best]:+.3f} ± {error:.3f}"]
        rows.append([f"{energy:.2f} keV", *cells])
    chosen = specml.denoise_report(clean).chosen
    head = ["line", "raw", "denoise_dae()", "blur + PCA(3), best width", "difference"]
    return Table(f"elements, {name}", f"{caption}; {chosen}", head, rows)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    import numpy as np

    return float(np.corrcoef(one, other)[0, 1])


def _error_of_difference(one: np.ndarray, rival: np.ndarray, goal: np.ndarray, shape: tuple[int, int]) -> float:
    """Return the standard error of the difference of two correlations with a goal, from leaving out parts of the map.

    Parameters
    ----------
    one, rival, goal
        (pixels,) maps.
    shape
        Of the map.
    """
    import numpy as np

    y, x = (index * _BLOCKS // n for index, n in zip(np.indices(shape), shape, strict=True))
    block = (y * _BLOCKS + x).ravel()
    without = [block != b for b in range(_BLOCKS**2)]
    found = [_correlation(one[w], goal[w]) - _correlation(rival[w], goal[w]) for w in without]
    return float(np.sqrt((len(found) - 1) * np.var(found)))  # the jackknife


def _leading(values: np.ndarray) -> np.ndarray:
    """Return spectra on their first three noise-weighted principal vectors."""
    import numpy as np

    rows = values.reshape(-1, values.shape[-1])
    weights = 1 / np.sqrt(np.maximum(rows.mean(axis=0), 1e-3 * rows.mean()))
    vectors = np.linalg.eigh((rows * weights).T @ (rows * weights))[1][:, -3:]
    return (((rows * weights) @ vectors) @ vectors.T / weights).reshape(values.shape)


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
