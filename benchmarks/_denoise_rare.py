"""What remains of the lines of a rare phase: 24 pixels, 200 counts each, 40 % of them of niobium."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from benchmarks._harness import median, number
from benchmarks._records import Table

DOSE = 200.0
TEXTURES: tuple[Literal["smooth", "grains"], ...] = ("smooth", "grains")
METHODS = ("pca", "spectral", "spectral, protect=True", "auto", "auto, protect=True")


def measure(size: int, channels: int, seeds: int) -> list[Table]:
    """Measure."""
    results = {texture: [_measure(texture, size, channels, seed) for seed in range(seeds)] for texture in TEXTURES}
    rows = [
        [f"{texture}, {method}", number(median(run[method]["kept"] for run in runs), ".3f"),
         f"{sum(run[method]['named'] for run in runs)} of {len(runs)}"]
        for texture, runs in results.items() for method in METHODS
    ]  # fmt: skip
    caption = f"24 pixels of Nb, {DOSE:g} counts; {size} x {size} pixels, {channels} channels; seeds: {seeds}"
    return [Table("excess", caption, ["map, method", "excess kept", "removed, says the report"], rows)]


def _measure(texture: Literal["smooth", "grains"], size: int, channels: int, seed: int) -> dict[str, Any]:
    import numpy as np

    import hyperspy_specml as specml

    rare = specml.datasets.RarePhase(n_pixels=24, fraction=0.4, elements=("Nb",))
    simulated = specml.datasets.fe_cr_ni_map(
        (size, size), n_channels=channels, dose=DOSE, texture=texture, rare_phase=rare, random_state=seed
    )
    assert simulated.rare_mask is not None
    assert simulated.endmembers is not None
    mask = simulated.rare_mask.data
    lines = simulated.endmembers.data[-1]  # of the rare phase
    window = lines > 0.1 * lines.max()
    # Outside the lines the excess is negative: the rare phase replaces others.
    base = simulated.clean.data[mask] - simulated.truth["abundances"].data[-1][mask][:, None] * (
        DOSE * simulated.truth["thickness"].data[mask][:, None] * lines
    )
    excess = float((simulated.clean.data[mask] - base)[:, window].sum())
    found: dict[str, Any] = {"pixels": int(mask.sum())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in METHODS:
            context, _, protect = method.partition(", ")
            if method == "pca":
                clean = simulated.signal.decomposition_ae(architecture="pca", show_progressbar=False)
                clean, named = clean.reconstruction, False
            else:
                # The same denoiser without and with: fitting it twice would give the same.
                anew = {"context": context, "random_state": seed}
                how = {"model": specml.denoise_model(clean)} if protect else anew
                clean = simulated.signal.denoise_dae(protect=bool(protect), show_progressbar=False, **how)
                named = bool((specml.denoise_report(clean).removed_map()[mask] > 0).mean() >= 0.5)
            kept = float((clean.data[mask] - base)[:, window].sum())
            found[method] = {"kept": kept / excess, "named": named}
    found["chance"] = float(np.mean(mask))
    return found
