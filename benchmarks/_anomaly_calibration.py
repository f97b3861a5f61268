"""Whether error rates of anomaly maps are what they promise: without anomalies, and with several planted.

EDS phases are lines of an element; in EELS maps the edge is shifted. Every map with phases also gets cosmic
rays: twenty counts and twenty deviations in a single channel.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks._harness import number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from hyperspy.signals import BaseSignal

    from hyperspy_specml.datasets import SimulatedMap

LEVELS = (0.1, 0.01, 0.001)
NULL_FDR, FDR = 0.01, 0.05
PLANTED = 6  # phases in a map
SPIKES = 5
ELEMENTS = ("Nb", "Mo", "Ti", "Cu", "Al", "Zr", "Mn", "Si", "Ag", "W")
_RAY = 20  # counts and deviations of a cosmic ray


@dataclass(frozen=True)
class Size:
    """Pixels along each scan axis, and channels of EDS maps; EELS maps have 512 or fewer."""

    pixels: int = 64
    channels: int = 512

    def __str__(self) -> str:
        """Say it in a caption."""
        return f"{self.pixels} x {self.pixels} pixels, {self.channels} channels"


def simulate(kind: str, dose: float, seed: int, size: Size, rare: tuple[int, float] | None = None) -> SimulatedMap:
    """Make a map.

    Parameters
    ----------
    kind
        "alloy", "grains" or "fe-l".
    dose
        Counts per pixel; of Fe-L ten times the counts per channel.
    seed
        Of the truth and the counts.
    size
        Of the map.
    rare
        Pixels of the planted phase and its fraction; of Fe-L the shift is twice that in eV.
    """
    from hyperspy_specml import datasets

    shape = (size.pixels, size.pixels)
    if kind == "fe-l":
        edge = rare and datasets.ShiftedEdge(rare[0], 2 * rare[1])
        return datasets.fe_l_map(
            shape, n_channels=min(512, size.channels), dose=dose / 10, rare_phase=edge, random_state=seed
        )
    phase = rare and datasets.RarePhase(*rare)
    return datasets.fe_cr_ni_map(
        shape, n_channels=size.channels, dose=dose, n_phases=4, rare_phase=phase, random_state=seed,
        texture="grains" if kind == "grains" else "smooth",
    )  # fmt: skip


def without_anomalies(kind: str, dose: float, n_maps: int, size: Size) -> dict[str, Any]:
    """Measure p-values where nothing is anomalous."""
    import numpy as np

    start = time.perf_counter()
    p, any_region = [], 0
    for seed in range(n_maps):
        signal = simulate(kind, dose, 1000 + seed, size).signal
        found = signal.anomaly_map(fdr=NULL_FDR, random_state=seed, show_progressbar=False)
        p.append(found.p_value.data.ravel())
        any_region += bool(found.regions)
    pooled = np.concatenate(p)
    return {
        "kind": kind,
        "dose": dose,
        "maps": n_maps,
        "maps_with_regions": any_region,
        "share_below": {str(level): float((pooled < level).mean()) for level in LEVELS},
        "seconds": time.perf_counter() - start,
    }


def with_anomalies(kind: str, dose: float, n_maps: int, size: Size) -> dict[str, Any]:
    """Count true and false regions, right energies and names, and spikes, over maps with planted phases."""
    totals = dict.fromkeys(
        ("phases", "found", "regions", "false", "energy", "named", "spikes", "listed", "spike_regions"), 0
    )
    start = time.perf_counter()
    for seed in range(n_maps):
        for key, value in _planted_map(kind, dose, 2000 + seed, size).items():
            totals[key] += value
    return {"kind": kind, "dose": dose, "maps": n_maps, "seconds": time.perf_counter() - start} | totals


def null_table(size: Size, null: Sequence[dict[str, Any]]) -> Table:
    """Return the table of maps without anomalies."""
    rows = [
        [
            f"{case['kind']}, dose {case['dose']:g}",
            *(number(case["share_below"][str(level)] / level) for level in LEVELS),
            f"{case['maps_with_regions']} of {case['maps']}",
        ]
        for case in null
    ]
    head = ["map", *(f"p < {level:g}" for level in LEVELS), "maps with regions"]
    caption = f"share of pixels below p, over p, where nothing is anomalous; regions at fdr={NULL_FDR:g}; {size}"
    return Table("null maps", caption, head, rows, total=True)


def planted_table(size: Size, planted: Sequence[dict[str, Any]]) -> Table:
    """Return the table of maps with planted phases."""
    rows = []
    for case in planted:
        true = case["regions"] - case["false"]
        eds = case["kind"] != "fe-l"  # what is rare there has no lines of its own
        rows.append([
            f"{case['kind']}, dose {case['dose']:g}",
            f"{case['found']} of {case['phases']}", f"{case['false']} of {case['regions']}",
            *(f"{case[key]} of {true}" if eds else "-" for key in ("energy", "named")),
            f"{case['listed']} of {case['spikes']}", str(case["spike_regions"]),
        ])  # fmt: skip
    head = ["map", "phases found", "regions false", "energy right", "named", "cosmic rays listed", "as regions"]
    caption = f"{PLANTED} phases and {SPIKES} cosmic rays in each map; fdr={FDR:g}; {size}"
    return Table("planted phases", caption, head, rows, total=True)


def _planted_map(kind: str, dose: float, seed: int, size: Size) -> dict[str, int]:
    """Plant phases and cosmic rays in one map and count what is found of them."""
    import numpy as np
    import scipy.ndimage

    rng = np.random.default_rng([seed, 1])
    clean = simulate(kind, dose, seed, size).clean
    expected, labels, elements = _plant(clean, kind, rng)
    counts = rng.poisson(expected)
    rays = _rays(expected, labels, rng)
    for place in rays:
        counts[place] += int(_RAY * (1 + np.sqrt(expected[place])))
    signal = clean._deepcopy_with_new_data(counts.astype(np.uint16))
    found = signal.anomaly_map(fdr=FDR, random_state=seed, show_progressbar=False)
    wide = scipy.ndimage.maximum_filter(labels, 5)
    hits = [{int(wide[y, x]) for x, y in region.pixels} - {0} for region in found.regions]
    right = [
        _right(region, {elements[k - 1] for k in hit}) for region, hit in zip(found.regions, hits, strict=True) if hit
    ]
    axis = clean.axes_manager.signal_axes[0].axis
    listed = {(*spike.position[::-1], int(np.abs(axis - spike.energy).argmin())) for spike in found.spikes}
    false = [region for region, hit in zip(found.regions, hits, strict=True) if not hit]
    hit_by_rays = {(x, y) for y, x, _ in rays}
    return {
        "phases": len(elements), "found": len(set().union(*hits)), "regions": len(found.regions),
        "false": len(false), "energy": sum(energy for energy, _ in right),
        "named": sum(name for _, name in right),
        "spikes": len(rays), "listed": len(listed & set(rays)),
        "spike_regions": sum(bool(hit_by_rays & set(region.pixels)) for region in false),
    }  # fmt: skip


def _plant(clean: BaseSignal, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return expected counts with phases, the map of their labels, and their elements."""
    import numpy as np

    from hyperspy_specml.datasets._alloy import characteristic

    expected = clean.data.astype(np.float64)
    energy = clean.axes_manager.signal_axes[0].axis
    labels = np.zeros(expected.shape[:2], int)
    places = _centres(labels.shape, rng)
    elements = list(rng.choice(ELEMENTS, len(places)))
    rows, columns = np.indices(labels.shape)
    for k, (centre, element) in enumerate(zip(places, elements, strict=True), 1):
        distance = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
        spot = np.zeros(labels.shape, bool)
        spot.flat[distance.ravel().argsort(kind="stable")[: rng.integers(4, 31)]] = True
        strength = rng.uniform(0.3, 1.0)
        labels[spot] = k
        if kind == "fe-l":
            moved = [np.interp(energy - 2 * strength, energy, spectrum) for spectrum in expected[spot]]
            expected[spot] = moved
        else:
            lines = expected[spot].sum(axis=1, keepdims=True) * characteristic(str(element), energy)
            expected[spot] = (1 - strength) * expected[spot] + strength * lines
    return expected, labels, [str(element) for element in elements]


def _centres(shape: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw places that keep away from each other and from the rim, as far as there is room."""
    apart = min(shape) // 5
    places: list[tuple[int, int]] = []
    for _ in range(200):
        y, x = (int(rng.integers(4, max(5, size - 4))) for size in shape)
        if len(places) < PLANTED and all(max(abs(y - v), abs(x - u)) >= apart for v, u in places):
            places.append((y, x))
    return places


def _rays(expected: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw places of cosmic rays: outside the phases, where something is counted."""
    ny, nx, n_channels = expected.shape
    rays: list[tuple[int, int, int]] = []
    while len(rays) < SPIKES:
        y, x, channel = int(rng.integers(ny)), int(rng.integers(nx)), int(rng.integers(n_channels))
        if not labels[y, x] and expected[..., channel].sum() > 1:
            rays.append((y, x, channel))
    return rays


def _right(region: Any, elements: set[str]) -> tuple[bool, bool]:
    """Return whether the energy is one of the elements' lines, and whether one is among the first three."""
    from hyperspy_specml.datasets._alloy import line_width

    width = 2.3548 * line_width(region.energy)
    near = any(abs(region.energy - line) <= width for element in elements for line in lines_of(element))
    return near, any(candidate.element in elements for candidate in region.candidates[:3])


def lines_of(element: str) -> list[float]:
    """Return the energies of the lines of an element in keV."""
    from exspy.material import elements

    return [line["energy (keV)"] for line in elements[element].Atomic_properties.Xray_lines.as_dictionary().values()]
