"""Part "drift" of the benchmark of architectures: models applied to a second map whose energy axis has moved.

The second map is counted again from the truth of the first, shifted or stretched about the middle of the axis. Maps are
not aligned: spectra are, each for itself, with ``augment``. Excess as in the other parts.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._harness import median, number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 2.0  # channels, of ``augment`` and of the shift of the second map
# Of the second map, in units of that: shift, and further shift of the ends by a stretch.
MOVES = {"as it was": (0, 0), "+0.5": (0.25, 0), "+1": (0.5, 0), "+2": (1, 0), "ends +2": (0, 1)}
_MORE = 1  # latents beyond those of the other parts: without ``augment``, a shift takes one


def drift(cases: Sequence[Any]) -> Table:
    """Return the excess on second maps of networks with and without ``augment``."""
    head = ["map", "architecture", "augment", "first map", *(f"second, {name}" for name in MOVES), "CPU seconds"]
    rows = []
    for architecture in (a for a in cases[0].options.architectures if a in ("pca", "dense", "conv")):
        for augment in (0.0,) if architecture == "pca" else (0.0, LARGEST):
            figures = np.array([_measure(case, architecture, augment) for case in cases])
            own = [number(median(one), ".2f") for one in figures.T]
            rows.append([cases[0].title, architecture, f"{augment:g}", *own])
    options = cases[0].options
    caption = f"{options.size} x {options.size} pixels, {options.channels} channels; moves in channels"
    return Table("drift", f"{caption}; maps: {len(cases)}", head, rows, keys=3)


def _measure(case: Any, architecture: str, augment: float) -> list[float]:
    from benchmarks.architectures import LATENTS, excess
    from hyperspy_specml import ConvOptions, DenseOptions, TrainConfig
    from hyperspy_specml.prepare import Moves

    options = {"dense": DenseOptions, "conv": ConvOptions}.get(architecture)
    moves, rng = Moves(np.arange(case.clean.shape[1]), LARGEST), np.random.default_rng([case.seed, 1])
    moved = [case.clean, *(np.maximum(one, 0) for one in moves.moved(case.clean, np.array([*MOVES.values()])))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a model does not describe a map is what is measured
        start = time.process_time()
        first = case.map.signal.decomposition_ae(
            LATENTS[case.name] + _MORE,
            architecture=architecture,
            options=options(augment=augment) if options else None,
            random_state=case.seed,
            config=TrainConfig(max_steps=case.options.steps),
            show_progressbar=False,
        )
        seconds = time.process_time() - start
        found = [first.reconstruction.data.reshape(case.clean.shape)]
        for clean in moved[1:]:
            counts = rng.poisson(clean).reshape(case.map.signal.data.shape).astype(np.int32)
            second: Any = case.map.signal._deepcopy_with_new_data(counts)
            second = second.decomposition_ae(model=first.model, show_progressbar=False)
            found.append(second.reconstruction.data.reshape(case.clean.shape))
    return [*(excess(one.astype(np.float64), clean) for one, clean in zip(found, moved, strict=True)), seconds]
