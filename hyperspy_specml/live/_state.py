"""The state of a monitor as plain values and arrays: saved in a file, and gone on from."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperspy_specml.exceptions import ModelFileError
from hyperspy_specml.latent import Recipe
from hyperspy_specml.live._kept import Kept
from hyperspy_specml.live._library import Library
from hyperspy_specml.live._moments import StreamedMoments
from hyperspy_specml.live._monitor import Monitor
from hyperspy_specml.live._setup import Known, Setup
from hyperspy_specml.statistics import Moments, noise_from_dict

# Of the saved state: its version, the settings in it, the numbers, and the arrays with a number for every pixel.
_VERSION = 1
_SETTINGS = ("shape", "n_channels", "order", "noise", "n_components", "seed", "beside", "training_seconds")
_NUMBERS = ("n_lost", "n_spikes", "n_received", "n_seen", "next_lesson", "errors_at", "n_certain", "certain")
_PER_PIXEL = ("visits", "intensity", "phase", "p_value", "deviation", "since", "told")


def state_of(monitor: Monitor) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what JSON can hold of the state of a monitor, and the rest as arrays.

    Parameters
    ----------
    monitor
        What it learns beside is taken over first.
    """
    monitor.wait()
    with monitor.lock:
        setup = {name: getattr(monitor.setup, name) for name in _SETTINGS}
        plain: dict[str, Any] = {"monitor": _VERSION, "setup": setup | {"shape": list(monitor.setup.shape)}}
        plain |= {name: getattr(monitor, name) for name in _NUMBERS}
        plain |= {"told": dict(monitor.frames.told), "frame_pixels": list(monitor.frames.n_pixels)}
        moments = monitor.moments.moments
        arrays = {name: getattr(monitor, name) for name in _PER_PIXEL}
        arrays |= {"frames": monitor.frames.sums, "alone": monitor.alone}
        arrays |= {"sums": moments.sums, "products": moments.products}
        plain |= {"n_moments": moments.n, "known": monitor.known is not None, "begun": monitor.library is not None}
        if monitor.setup.widths is not None:
            arrays["widths"] = monitor.setup.widths
        if monitor.buffer:
            for k, name in enumerate(("rows", "pixels")):
                arrays[f"buffer_{name}"] = np.concatenate([part[k] for part in monitor.buffer])
        _add_recipe(monitor, plain, arrays)
        return plain, {name: np.ascontiguousarray(array).copy() for name, array in arrays.items()}


def _add_recipe(monitor: Monitor, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    recipe, library = monitor.recipe, monitor.library or (None if monitor.known is None else monitor.known.library)
    if recipe is not None:
        arrays |= {"channels": recipe.channels, "mean": recipe.mean}
        plain |= {"width": recipe.width, "noise": recipe.noise.to_dict()}
        if recipe.deviation is not None:
            arrays["deviation_of_groups"] = recipe.deviation
    if library is not None:
        arrays |= {"library_sums": library.sums, "library_n": library.n_spectra, "library_null": library.null}
        arrays |= {"library_error": np.atleast_1d(library.error), "library_tail": library.tail}
    plain["of_model"] = library is not None and library.of_model
    if monitor.kept is not None:
        arrays |= {"table": monitor.kept.values, "table_seen": monitor.kept.seen}
        if monitor.kept.expected is not None:
            arrays["table_expected"] = monitor.kept.expected


def monitor_of(plain: dict[str, Any], arrays: dict[str, np.ndarray], known: Known | None = None) -> Monitor:
    """Return a monitor that goes on from a state.

    Parameters
    ----------
    plain, arrays
        As `state_of` returns them.
    known
        The model where the scan began with one: a state does not hold it.

    Raises
    ------
    ModelFileError
        The parts are not those of one.
    """
    try:
        return _monitor_of(plain, arrays, known)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"the file holds no state of a monitor that fits together ({error!r:.100})") from error


def _monitor_of(plain: dict[str, Any], arrays: dict[str, np.ndarray], known: Known | None) -> Monitor:
    if plain.get("monitor") != _VERSION:
        raise ValueError("no state of a monitor")
    setup = Setup(**plain["setup"] | {"shape": tuple(plain["setup"]["shape"]), "widths": arrays.get("widths")})
    recipe, library = _recipe(plain, arrays)
    if plain["known"] and known is None:
        if library is None or library.of_model:
            raise ValueError("the model that the scan began with is missing")
        known = Known(recipe, library)
    found = Monitor(setup, known)
    for name in _PER_PIXEL:
        own = getattr(found, name)
        if arrays[name].shape != own.shape:
            raise ValueError(f"array {name!r} has the shape {arrays[name].shape}")
        setattr(found, name, arrays[name].astype(own.dtype))
    for name in _NUMBERS:
        setattr(found, name, int(plain[name]))
    found.alone = arrays["alone"].astype(np.intp)
    found.frames.told, found.frames.n_pixels = dict(plain["told"]), [int(n) for n in plain["frame_pixels"]]
    found.frames.sums = arrays["frames"].reshape(-1, setup.n_channels)
    found.moments = StreamedMoments(Moments(int(plain["n_moments"]), arrays["sums"], arrays["products"]))
    if "buffer_rows" in arrays:
        found.buffer = [(arrays["buffer_rows"], arrays["buffer_pixels"], False)]
    found.recipe = recipe
    found.library = library if plain["begun"] else None
    if "table" in arrays:
        of_model = "table_expected" in arrays
        found.kept = Kept(setup.shape, arrays["table"].shape[1], of_model=of_model)
        if found.kept.expected is not None:
            found.kept.expected[:] = arrays["table_expected"]
        found.kept.values[:], found.kept.seen[:] = arrays["table"], arrays["table_seen"]
    return found


def _recipe(plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Recipe | None, Library | None]:
    if "mean" not in arrays:
        return None, None
    noise, deviation = noise_from_dict(plain["noise"]), arrays.get("deviation_of_groups")
    recipe = Recipe(arrays["channels"].astype(bool), int(plain["width"]), deviation, arrays["mean"], noise)
    if "library_sums" not in arrays:
        return recipe, None
    sums, n, error, null, tail = (arrays[f"library_{name}"] for name in ("sums", "n", "error", "null", "tail"))
    return recipe, Library(sums, n, recipe.law, error, null, tail, of_model=bool(plain["of_model"]))
