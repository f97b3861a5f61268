"""Denoisers trained on a library of noise-free spectra: noisy inputs are drawn, clean targets are known.

What is learnt is the mean of all spectra of the library that agree with a noisy one, at any noise level of a
range. Intensities are not learnt: every spectrum counts by its shape, and keeps its own total.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose import Autoencoder
from hyperspy_specml.denoise._options import LibraryOptions
from hyperspy_specml.exceptions import TooFewSpectraError
from hyperspy_specml.lazy import torch
from hyperspy_specml.models import LibraryDenoiser
from hyperspy_specml.statistics import PoissonNoise, moments_of, principal_basis
from hyperspy_specml.train import DrawnCounts, History, RandomRows, fit, one_thread, squared_error

if TYPE_CHECKING:
    from hyperspy_specml.run import Run

# Every batch draws new counts, so half of an autoencoder's batch is enough.
DEFAULTS = replace(Autoencoder.defaults, batch_size=256)
_LEAST_SPECTRA = 16
_MOST_VECTORS = 64
# Variance along a basis vector, relative to that of the noise of the largest number of counts, below which
# the vector is left out: what lies along it is lost in the noise.
_LEAST_VARIANCE = 0.05
# Every eighth spectrum is held out: it only decides when to stop, and is what the report scores.
_HELD_OUT = 8
# Batches of held-out spectra that a score is the mean of.
_SCORED_BATCHES = 4

Range = tuple[float, float]


@dataclass(frozen=True)
class LibraryFit:
    """A denoiser of a library, and how well it denoises spectra that it has not seen.

    Attributes
    ----------
    denoiser
        Fitted.
    mean
        (E,) mean spectrum of total 1.
    errors
        From "library network", "Wiener filter" and the PCA of best rank to the (n,) squared errors of
        held-out spectra, in units of the noise and summed over channels, at the middle of the range of
        totals.
    history
        Of the training.
    """

    denoiser: LibraryDenoiser
    mean: np.ndarray
    errors: dict[str, np.ndarray]
    history: History


def fit_library(spectra: np.ndarray, totals: Range, run: Run, options: LibraryOptions | None = None) -> LibraryFit:
    """Train a denoiser on noise-free spectra.

    Parameters
    ----------
    spectra
        (n, E) noise-free spectra, in any unit.
    totals
        Smallest and largest number of counts in a spectrum.
    run
        Settings, seed of weights, noise and batches, device and progress.
    options
        Of the network.

    Raises
    ------
    TooFewSpectraError
        Fewer than 16 spectra.
    TrainingDivergedError
        The loss diverged.
    """
    run = run.over(DEFAULTS)
    if len(spectra) < _LEAST_SPECTRA:
        raise TooFewSpectraError(
            f"train_denoiser() needs {_LEAST_SPECTRA} spectra or more, best thousands, but the library holds "
            f"{len(spectra)}. Simulate more, e.g. specml.datasets.fe_l_library(4000)."
        )
    shapes = spectra / spectra.sum(axis=1, keepdims=True, dtype=np.float64)
    held = np.arange(len(shapes)) % _HELD_OUT == 0
    denoiser = _untrained(shapes[~held], totals, options or LibraryOptions(), run)
    network, middle = denoiser.network, float(np.sqrt(totals[0] * totals[1]))
    with one_thread(run.device), run.progress.enter("Train library network"):
        unseen = _counts(denoiser, shapes[held], totals, None, run.seed + 1)
        batches = [unseen.draw() for _ in range(_SCORED_BATCHES)]

        def score(network: torch.nn.Module) -> float:
            with torch.inference_mode():
                return sum(float(sum(squared_error(network, batch, 0).values())) for batch in batches) / len(batches)

        counts = _counts(denoiser, shapes[~held], totals, run.config.batch_size, run.seed)
        history = fit(network, counts, squared_error, run, score=score)
    return LibraryFit(denoiser, shapes.mean(axis=0), _errors(denoiser, shapes[held], middle, run.seed), history)


def _untrained(shapes: np.ndarray, totals: Range, options: LibraryOptions, run: Run) -> LibraryDenoiser:
    """Return the denoiser whose network is the best linear one."""
    from hyperspy_specml.nn import Shrinkage

    basis = principal_basis(moments_of(shapes), PoissonNoise(), n_vectors=_MOST_VECTORS)
    relative = basis.project(shapes).var(axis=0) * totals[1]  # to the noise of the most counts
    basis = basis.first(int(max(1, (relative > _LEAST_VARIANCE).sum())))
    scores = basis.project(shapes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = Shrinkage(basis.n_vectors, options.n_hidden, options.n_layers).to(run.device)
    middle = np.full(basis.n_vectors, 1 / np.sqrt(totals[0] * totals[1]) ** 0.5)
    variance = np.maximum(scores.var(axis=0, dtype=np.float64), 1e-30)
    levels = 1 / np.sqrt(np.array(totals[::-1]))
    return LibraryDenoiser(basis, middle, scores.mean(axis=0, dtype=np.float64), variance, levels, network)


def _counts(denoiser: LibraryDenoiser, shapes: np.ndarray, totals: Range, size: int | None, seed: int) -> DrawnCounts:
    """Return the source of batches of noisy spectra of these shapes; None draws all of them at a time."""
    along = denoiser.basis.vectors * denoiser.basis.weights[:, None]
    arrays = shapes, along, denoiser.centre, denoiser.variance
    how: dict[str, Any] = {"dtype": torch.float32, "device": next(denoiser.network.parameters()).device}
    clean, projector, centre, variance = (torch.as_tensor(array, **how) for array in arrays)
    rows = RandomRows(len(shapes), size or len(shapes), torch.Generator().manual_seed(seed))
    return DrawnCounts(clean, projector, centre, variance, totals, rows)


def _errors(denoiser: LibraryDenoiser, shapes: np.ndarray, total: float, seed: int) -> dict[str, np.ndarray]:
    """Return squared errors of held-out spectra at one number of counts, by candidate."""
    basis, n = denoiser.basis, denoiser.basis.n_vectors
    noisy = basis.project(np.random.default_rng(seed + 2).poisson(total * shapes) / total)
    clean = basis.project(shapes)
    kept = denoiser.variance / (denoiser.variance + 1 / total)

    def error(found: np.ndarray) -> np.ndarray:
        return total * np.square(found - clean).sum(axis=1, dtype=np.float64)

    plain = [error(np.where(np.arange(n) < k, noisy, 0)) for k in range(1, n + 1)]
    best = int(np.argmin([e.mean() for e in plain]))
    own = denoiser.with_noise(np.full(n, 1 / np.sqrt(total)))
    totals = denoiser.totals(noisy)
    return {
        "library network": error(own.denoise_rows(noisy)),
        "Wiener filter": error(totals * (kept * (noisy / totals - denoiser.centre) + denoiser.centre)),
        f"pca ({best + 1})": plain[best],
    }
