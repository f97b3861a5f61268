"""Maps with a planted phase of 24 pixels in several shapes: whether every pixel gets its own score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._anomaly_calibration import FDR, simulate
from benchmarks._anomaly_rivals import average_precision
from benchmarks._harness import number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._anomaly_calibration import Size

SHAPES = ("one piece", "2 x 2 blocks", "lines")
ELEMENT = "Nb"
_N_BLOCKS, _LENGTH, _APART = 6, 12, 7  # pixels


def score_shape(kind: str, dose: float, seed: int, size: Size, *, fraction: float, shape: str) -> dict[str, Any]:
    """Return how well the planted pixels of one map are found."""
    import scipy.ndimage

    from hyperspy_specml.datasets._alloy import characteristic

    clean, rng = simulate(kind, dose, seed, size).clean, np.random.default_rng([seed, 3])
    expected, axis = clean.data.astype(np.float64), clean.axes_manager.signal_axes[0].axis
    truth = planted_pixels(expected.shape[:2], shape, rng)
    lines = expected[truth].sum(axis=1, keepdims=True) * characteristic(ELEMENT, axis)
    expected[truth] = (1 - fraction) * expected[truth] + fraction * lines
    signal = clean._deepcopy_with_new_data(rng.poisson(expected).astype(np.uint16))
    found = signal.anomaly_map(fdr=FDR, random_state=seed, show_progressbar=False)
    inside, wide = found.detections.data, scipy.ndimage.binary_dilation(truth, iterations=2)
    true = [any(wide[y, x] for x, y in region.pixels) for region in found.regions]
    return {
        "average_precision": average_precision(found.score.data, truth),
        "overlap": float((inside & truth).sum() / (inside | truth).sum()),
        "pixels": int((inside & truth).sum()),
        "planted": int(truth.sum()),
        "extra": int((inside & ~truth).sum()),
        "regions": len(true),
        "false": true.count(False),
    }


def planted_pixels(size: tuple[int, ...], shape: str, rng: np.random.Generator) -> np.ndarray:
    """Return a bool map: a disc, blocks that keep apart, or a line along the rows and a diagonal one."""
    inside = np.zeros(size, bool)
    n_rows, n_columns = size
    if shape == "one piece":
        centre = [rng.integers(4, n - 4) for n in size]
        distance = sum((i - c) ** 2 for i, c in zip(np.indices(size), centre, strict=True))
        inside.flat[np.argsort(distance, axis=None, kind="stable")[: 4 * _N_BLOCKS]] = True
    elif shape == "2 x 2 blocks":
        cells = [(y, x) for y in range(2, n_rows - 3, _APART) for x in range(2, n_columns - 3, _APART)]
        for k in rng.choice(len(cells), _N_BLOCKS, replace=False):
            y, x = cells[k]
            inside[y : y + 2, x : x + 2] = True
    else:
        steps, half = np.arange(_LENGTH), n_rows // 2
        inside[rng.integers(2, half - 4), rng.integers(2, n_columns - _LENGTH) + steps] = True
        inside[rng.integers(half, n_rows - _LENGTH) + steps, rng.integers(2, n_columns - _LENGTH) + steps] = True
    return inside


def shapes_table(where: str, cases: Sequence[dict[str, Any]]) -> Table:
    """Return the mean scores of each shape, and its pixels and regions over all maps."""
    rows = []
    for case in cases:
        runs = case["runs"]
        means = [float(np.mean([run[key] for run in runs])) for key in ("average_precision", "overlap")]
        total = {key: sum(run[key] for run in runs) for key in ("pixels", "planted", "extra", "regions", "false")}
        rows.append([
            f"{case['kind']}, dose {case['dose']:g}, fraction {case['fraction']:g}, {case['shape']}",
            *(number(mean, ".3f") for mean in means), f"{total['pixels']} of {total['planted']}",
            str(total["extra"]), f"{total['false']} of {total['regions']}",
        ])  # fmt: skip
    head = ["map", "average precision", "intersection over union", "pixels found", "others", "regions false"]
    return Table("shapes of a phase", f"{ELEMENT} in 24 pixels; {where}", head, rows)
