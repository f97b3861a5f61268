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
        for name in maps for dose in doses
    }  # fmt: skip
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

    import hyperspy_specml as specml
    from hyperspy_specml.denoise import _run as _denoise
    from hyperspy_specml.streaming import SpectrumStream

    simulated, clean = denoising_map(name, dose=dose, size=size, channels=channels, seed=seed)
    stream, config = SpectrumStream(simulated.signal.data), specml.TrainConfig()
    with mock.patch.object(_denoise, "_choose", wraps=_denoise._choose) as choose:
        found = _denoise.denoise(stream, config=config, seed=seed)
    plain, _, entries = choose.call_args.args
    used = plain.survey.channels
    errors = {}
    for entry in entries:
        denoiser = entry.on_all_counts()
        scores = _denoise._apply(stream, denoiser, plain.survey, config.memory_budget)
        spectra = np.zeros((len(scores), len(used)), np.float32)  # channels without counts are 0
        spectra[:, used] = denoiser.basis.spectra(np.nan_to_num(scores))
        errors[entry.name] = error_of(spectra.reshape(clean.shape), clean)
    return {"errors": errors, "chosen": found.chosen}
