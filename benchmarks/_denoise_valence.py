"""The share of Fe3+ by a fit of reference spectra: raw, PCA and denoised data against the dose.

The fit is that of Fe2+, Fe3+ and the background, each scattered as at the thickness that fits best. Where the
energy axis drifts, the shift is free too. For every pixel the error over several
draws of the counts is split: its mean is bias, its standard deviation spread.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from benchmarks._harness import number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

DOSES = (3.0, 10.0, 30.0, 100.0, 300.0)
QUICK_DOSES = DOSES[1:]  # with three counts the fit is lost whatever comes before it
REFERENCE = 300.0  # counts per channel of the raw data whose accuracy is asked for
METHODS = ("raw", "pca", "spectral", "auto", "library")
_SHIFTS = (-2.0, 2.0, 101)  # eV
_THICKNESSES = (0.2, 1.4, 7)  # inelastic mean free paths
_CHANNELS = 512


def measure(size: int, quick: bool) -> list[Table]:
    """Measure."""
    size, draws, doses = (min(size, 40), 2, QUICK_DOSES) if quick else (min(size, 64), 3, DOSES)
    library = _library(quick)
    tables = []
    for drift in (False, True):
        fit = _Fit(free=drift)
        rows = {
            method: [_errors(method, dose, drift, size, draws, fit, library) for dose in doses] for method in METHODS
        }
        rows["noise-free"] = [_errors("noise-free", doses[0], drift, size, 1, fit, library)]
        tables.append(_table(drift, rows, doses, f"{size} x {size} pixels, {draws} draws of each dose"))
    return tables


def _table(drift: bool, found: dict[str, list[dict[str, float]]], doses: Sequence[float], where: str) -> Table:
    goal = found["raw"][-1]["rmse"]
    caption = f"root mean square error of the share of Fe3+ (bias, spread); {where}"
    head = ["method", *(f"{dose:g}" for dose in doses), f"reaches raw {REFERENCE:g} at"]
    rows = [_row(method, errors, goal, doses) for method, errors in found.items()]
    return Table("drift, free shift" if drift else "no drift", caption, head, rows)


def _row(method: str, found: list[dict[str, float]], goal: float, doses: Sequence[float]) -> list[str]:
    cells = [f"{r['rmse']:.3f} ({r['bias']:.3f}, {r['spread']:.3f})" for r in found]
    cells += ["-"] * (len(doses) - len(cells))
    return [method, *cells, number(dose_for([r["rmse"] for r in found], goal, doses), ".3g")]


def dose_for(errors: list[float], goal: float, doses: Sequence[float]) -> float | None:
    """Return the dose at which errors fall to the goal, on straight lines between logarithms."""
    import numpy as np

    if len(errors) < len(doses) or errors[-1] > goal:
        return None
    if errors[0] <= goal:
        return doses[0]
    k = next(i for i, error in enumerate(errors) if error <= goal)
    x, y = np.log(doses[k - 1 : k + 1]), np.log(errors[k - 1 : k + 1])
    return float(np.exp(x[0] + (x[1] - x[0]) * (y[0] - np.log(goal)) / (y[0] - y[1])))


def _library(quick: bool) -> Any:
    import hyperspy_specml as specml

    config = specml.TrainConfig(max_steps=1500) if quick else None
    library = specml.datasets.fe_l_library(4000, n_channels=_CHANNELS)
    return specml.train_denoiser(library, config=config, show_progressbar=False)


def _errors(method: str, dose: float, drift: bool, size: int, draws: int, fit: _Fit, library: Any) -> dict[str, float]:
    import numpy as np

    import hyperspy_specml as specml

    simulated = specml.datasets.fe_l_map((size, size), n_channels=_CHANNELS, dose=dose, drift=drift)
    truth = simulated.truth["fe3_fraction"].data.reshape(-1)
    errors = []
    for draw in range(draws):
        spectra = simulated.clean if method == "noise-free" else simulated.counts(random_state=1000 + draw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spectra = _treat(spectra, method, library)
        errors.append(fit(np.asarray(spectra, np.float64).reshape(-1, _CHANNELS)) - truth)
    mean = np.mean(errors, axis=0)
    spread = float(np.mean(np.var(errors, axis=0, ddof=1))) if draws > 1 else 0.0
    # The mean of so few draws still has noise, which is no bias.
    bias = max(0.0, float(np.mean(mean**2)) - spread / draws)
    return {"rmse": float(np.sqrt(np.mean(np.square(errors)))), "bias": bias**0.5, "spread": spread**0.5}


def _treat(signal: Any, method: str, library: Any) -> np.ndarray:
    if method in ("raw", "noise-free"):
        return signal.data
    if method == "pca":
        return signal.decomposition_ae(architecture="pca", show_progressbar=False).reconstruction.data
    if method == "library":
        return signal.denoise_dae(model=library, show_progressbar=False).data
    return signal.denoise_dae(context=method, show_progressbar=False).data


class _Fit:
    """Least squares of Fe2+, Fe3+ and the background, weighted by the noise of the mean spectrum.

    Thickness, and the shift where it is free, are those of a grid that fit a spectrum best.
    """

    def __init__(self, *, free: bool) -> None:
        import numpy as np

        shifts = np.linspace(*_SHIFTS) if free else np.zeros(1)
        self.references = np.stack(
            [self._references(t, shift) for t in np.linspace(*_THICKNESSES) for shift in shifts]
        )  # (R, E, 3)

    @staticmethod
    def _references(thickness: float, shift: float) -> np.ndarray:
        import numpy as np

        from hyperspy_specml.datasets import fe_l_spectra

        two, three = (fe_l_spectra(share, thickness, shift, background=False) for share in (0.0, 1.0))
        return np.stack([two, three, fe_l_spectra(0.0, thickness, shift, iron=0.0)], axis=1)  # (E, 3)

    def __call__(self, spectra: np.ndarray) -> np.ndarray:
        """Return the (n,) shares of Fe3+ of (n, E) spectra."""
        import numpy as np

        weights = 1 / np.sqrt(np.maximum(spectra.mean(axis=0), 1e-3 * spectra.mean()))
        bases, triangles = np.linalg.qr(self.references * weights[:, None])
        along = (spectra * weights) @ np.concatenate(bases, axis=1)  # (n, 3 R)
        along = along.reshape(len(spectra), len(bases), -1)
        best = np.argmax(np.square(along).sum(axis=2), axis=1)
        along = np.take_along_axis(along, best[:, None, None], axis=1)[:, 0]
        amounts = np.linalg.solve(triangles[best], along[..., None])[..., 0]
        iron = amounts[:, 0] + amounts[:, 1]
        return np.clip(amounts[:, 1] / np.where(np.abs(iron) > 1e-9, iron, 1e-9), -0.5, 1.5)
