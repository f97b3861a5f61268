"""Maps of phases whose truth is known: large domains, grains with half-mixed borders, and what is no phases at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.spatial import KDTree

from hyperspy_specml import datasets

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

_SUBPIXELS = 3
_PIXELS_PER_GRAIN = 200


def phase_map(
    kind: str,
    dose: float,
    seed: int,
    *,
    size: int,
    channels: int,
    blur: int = 1,
    rare: bool = False,
    shift: float = 0.0,
) -> tuple[BaseSignal, np.ndarray]:
    """Simulate a map; return it and the (size, size, K) shares of its phases.

    Parameters
    ----------
    kind
        "alloy": large domains of Fe, Cr, Ni and an oxide; "grains": four phases alike, pixels on borders mixed;
        "noise": one phase; "ramp": one phase of varying thickness; "gradient": shares of two phases that vary evenly,
        pure nowhere.
    dose
        Counts per pixel.
    seed, size, channels
        Of the simulation, pixels along each side, energy channels.
    blur
        Pixels that the beam covers along each side.
    rare
        Plant 24 pixels with 40 % lines of Nb.
    shift
        Error of the calibration in units of the energy axis: lines lie so much higher.
    """
    texture: Any = "smooth" if kind == "alloy" else "grains"
    phase = datasets.RarePhase() if rare else None
    template = datasets.fe_cr_ni_map((size, size), n_channels=channels, texture=texture, n_phases=4, rare_phase=phase)
    rng = np.random.default_rng(seed)
    draw = {"alloy": _domains, "grains": _grains, "ramp": _one, "noise": _one, "gradient": _gradient}[kind]
    shares = draw(rng, size)
    if blur > 1:
        shares = uniform_filter(shares, (blur, blur, 0), mode="nearest")
    if rare:
        assert template.rare_mask is not None
        strange = 0.4 * template.rare_mask.data[..., None]
        shares = np.concatenate([shares * (1 - strange), strange], axis=-1)
    assert template.endmembers is not None
    thickness = {"ramp": np.linspace(0.5, 1.5, size), "noise": np.ones(size)}.get(kind, 1 + 0.2 * _field(rng, size))
    energy = template.signal.axes_manager.signal_axes[0].axis
    spectra = [np.interp(energy - shift, energy, spectrum) for spectrum in template.endmembers.data]
    mean = dose * np.broadcast_to(thickness, (size, size))[..., None] * (shares @ np.array(spectra))
    signal = template.signal.deepcopy()
    signal.data = rng.poisson(np.maximum(mean, 0)).astype(np.uint16)
    return signal, shares


def valence_map(
    dose: float, seed: int, *, size: int, channels: int, drift: bool = False, charging: float = 0.0, thick: bool = False
) -> tuple[BaseSignal, np.ndarray]:
    """Simulate the Fe-L edges of grains of three valences; return them and (size, size) labels.

    Parameters
    ----------
    dose
        Counts per channel.
    seed, size, channels
        As in `phase_map`.
    drift
        Shift the spectra by 0.5 eV (standard deviation), mostly from scan line to scan line.
    charging
        Standard deviation in eV of a shift that varies smoothly over the map.
    thick
        Let the thickness vary smoothly from 0.3 to 1.2 inelastic mean free paths; else it is 0.6.
    """
    simulated = datasets.fe_l_map((size, size), n_channels=channels, dose=dose, random_state=seed)
    signal, truth = simulated.signal.deepcopy(), simulated.truth
    rng = np.random.default_rng(seed)
    labels = _grains(rng, size).argmax(axis=-1) % 3
    shift = drift * truth["shift"].data + charging * 2 * _field(rng, size)
    energy = signal.axes_manager.signal_axes[0].axis
    thickness = truth["thickness"].data if thick else np.full(labels.shape, 0.6)
    mean = datasets.fe_l_spectra(labels / 2, thickness, shift, energy=energy)
    signal.data = rng.poisson(dose * mean / mean.mean()).astype(np.uint16)
    return signal, labels


def _field(rng: np.random.Generator, size: int) -> np.ndarray:
    field = gaussian_filter(rng.standard_normal((size, size)), 0.08 * size, mode="wrap")
    return np.clip(field / field.std() / 2, -1, 1)


def _domains(rng: np.random.Generator, size: int) -> np.ndarray:
    fields = [gaussian_filter(rng.standard_normal((size, size)), 0.08 * size, mode="wrap") for _ in range(4)]
    return np.eye(4)[np.argmax(np.stack(fields, axis=-1), axis=-1)]


def _grains(rng: np.random.Generator, size: int) -> np.ndarray:
    n = max(8, size**2 // _PIXELS_PER_GRAIN)
    seeds, phases = rng.uniform(0, size, (n, 2)), rng.permutation(np.arange(n) % 4)
    fine = np.moveaxis(np.indices((size * _SUBPIXELS,) * 2), 0, -1) / _SUBPIXELS
    whole = np.eye(4)[phases[KDTree(seeds).query(fine)[1]]]
    return whole.reshape(size, _SUBPIXELS, size, _SUBPIXELS, 4).mean(axis=(1, 3))


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    part = np.broadcast_to(np.linspace(0.2, 0.8, size)[:, None], (size, size, 1))
    return np.concatenate([part, 1 - part, 0 * part, 0 * part], axis=-1)


def _one(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.broadcast_to(np.eye(4)[0], (size, size, 4))
