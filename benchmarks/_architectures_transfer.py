"""Part "transfer" of the benchmark of architectures: models on a second map that is calibrated otherwise.

The second map is counted again from the truth of the first, shifted by up to two units of the energy axis (eV of
EELS; of EDS ten eV, about one channel) or with two per cent more dispersion. Models are applied as they are, aligned
by ``align=True``, or with ``augment``, which finds a shift and a stretch of each spectrum. Excess as in the other
parts.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._harness import median, number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of the second map: shift in units, and relative change of the dispersion.
MOVES = {"as it was": (0.0, 0.0), "+0.5": (0.5, 0.0), "+1": (1.0, 0.0), "+2": (2.0, 0.0), "2 % wider": (0.0, 0.02)}
_UNIT = {"Fe-L": 1.0, "alloy": 0.01}  # of a shift, in eV and keV
# How a model is made fit for another axis.
_WAYS = (
    ("pca", "as it is"), ("pca", "aligned"), ("dense", "as it is"), ("dense", "aligned"), ("dense", "each spectrum"),
    ("vae", "aligned"), ("conv", "each spectrum"),
)  # fmt: skip


def transfer(cases: Sequence[Any]) -> Table:
    """Return the excess on second maps, the worst one beside that without a move, and beside PCA as it is at +2."""
    head = ["map", "architecture", "way", *(f"second map, {name}" for name in MOVES), "worst / as it was",
            "at +2 / PCA as it is", "shift found at +2"]  # fmt: skip
    options, rows, pca = cases[0].options, [], np.nan
    title = f"{cases[0].title}, {options.channels} channels"
    for architecture, way in _WAYS:
        if architecture not in options.architectures:
            continue
        found = [_measure(case, architecture, way) for case in cases]
        figures = np.median([one for one, _ in found], axis=0)
        at_2 = figures[[*MOVES].index("+2")]
        pca = at_2 if (architecture, way) == ("pca", "as it is") else pca
        rows.append([title, architecture, way, *(number(one, ".2f") for one in figures),
                     number(figures[1:].max() / figures[0]), number(at_2 / pca),
                     number(median([shift for _, shift in found]), "+.3f")])  # fmt: skip
    caption = f"{options.size} x {options.size} pixels; moves in eV, of EDS in 10 eV"
    return Table("transfer", f"{caption}; maps: {len(cases)}", head, rows, keys=3)


def _measure(case: Any, architecture: str, way: str) -> tuple[list[float], float | None]:
    """Return the excess after each move, and the shift that was found for +2, in units."""
    from benchmarks.architectures import LATENTS, excess
    from hyperspy_specml import ConvOptions, DenseOptions, TrainConfig
    from hyperspy_specml.prepare import Moves

    axis = case.map.signal.axes_manager.signal_axes[0]
    unit, ends = _UNIT[case.name] / axis.scale, 0.5 * (axis.size - 1)
    largest = max(max(shift * unit, wider * ends) for shift, wider in MOVES.values())
    moves = Moves(np.arange(axis.size), largest)
    by = np.array([(shift * unit, wider * ends) for shift, wider in MOVES.values()]) / largest
    rng, shape = np.random.default_rng([case.seed, 2]), case.map.signal.data.shape
    inner = slice(int(np.ceil(largest)), -int(np.ceil(largest)))  # what lies beyond, a model that is moved cannot know
    options = (
        {"dense": DenseOptions, "conv": ConvOptions}[architecture](augment=largest) if way == "each spectrum" else None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a model does not describe a map is what is measured
        first = case.map.signal.decomposition_ae(
            LATENTS[case.name],
            architecture=architecture,
            options=options,
            random_state=case.seed,
            config=TrainConfig(max_steps=case.options.steps),
            show_progressbar=False,
        )
        found, shift = [], None
        for name, clean in zip(MOVES, moves.moved(case.clean, by), strict=True):
            clean = np.maximum(clean, 0)
            second: Any = case.map.signal._deepcopy_with_new_data(rng.poisson(clean).reshape(shape).astype(np.int32))
            second = second.decomposition_ae(model=first.model, align=way == "aligned", show_progressbar=False)
            estimate = np.nan_to_num(second.reconstruction.data.reshape(clean.shape).astype(float))
            found.append(excess(estimate[:, inner], clean[:, inner]))
            words = second.report.alignment
            if name == "+2" and words:
                shift = float(words.split("by ")[1].split(" ")[0]) / _UNIT[case.name] if "moved by" in words else 0.0
    return found, shift
