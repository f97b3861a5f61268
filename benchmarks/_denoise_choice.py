"""The error of every candidate of ``denoise_dae``, which held-out counts choose from without knowing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks._denoise_rivals import error_of
from benchmarks._harness import median, number
from benchmarks._maps import denoising_map
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def measure(maps: Sequence[str], doses: Sequence[float], size: int, channels: int, seeds: int) -> list[Table]:
    """Measure."""
    results = {
        f"{name} {dose:g}": [_measure(name, dose, size, channels, seed) for seed in range(seeds)]
        for name in maps
        for dose in doses
    }
    rows = []
    for name, runs in results.items():
        errors = runs[0]["errors"]
        over_best = median(run["errors"][run["chosen"]] / min(run["errors"].values()) for run in runs)
        best = min(errors, key=lambda candidate: errors[candidate])
        rows.append([name, str(len(errors)), runs[0]["chosen"], best, number(over_best, ".3f")])
    caption = f"{size} x {size} pixels, {channels} channels of EDS maps; seeds: {seeds}"
    return [Table("choice", caption, ["map, counts", "candidates", "chosen", "best", "chosen / best"], rows)]


def _measure(name: str, dose: float, size: int, channels: int, seed: int) -> dict[str, Any]:
    import numpy as np

    from hyperspy_specml.denoise import _run
    from hyperspy_specml.run import Run
    from hyperspy_specml.signals import below_first_line
    from hyperspy_specml.streaming import SpectrumStream

    simulated, clean = denoising_map(name, dose=dose, size=size, channels=channels, seed=seed)
    stream, run = SpectrumStream(simulated.signal.data), Run(seed=seed)
    with mock.patch.object(_run, "_choose", wraps=_run._choose) as choose:
        found = _run.denoise(stream, run, masks=(None, below_first_line(simulated.signal)))
    data, _, entries = choose.call_args.args
    used = data.summary.channels
    errors = {}
    for entry in entries:
        denoiser = entry.on_all_counts()
        scores = _run.denoise_own_map(stream, denoiser, data.summary, 1.0, data.estimate.model).scores
        spectra = np.zeros((len(scores), len(used)), np.float32)  # channels without counts are 0
        spectra[:, used] = denoiser.basis.spectra(np.nan_to_num(scores))
        errors[entry.name] = error_of(spectra.reshape(clean.shape), clean)
    return {"errors": errors, "chosen": found.report.chosen}
