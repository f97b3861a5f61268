"""Denoisers trained on a library of noise-free spectra: noisy inputs are drawn, clean targets are known.

What is learnt is the mean of all spectra of the library that fit a noisy one, at any noise level of a range.
Intensities are not: every spectrum counts by its shape, and keeps its own total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperspy_specml.exceptions import TooFewSpectraError
from hyperspy_specml.models import LibraryDenoiser
from hyperspy_specml.nn import Shrinkage
from hyperspy_specml.statistics import PoissonNoise, PrincipalBasis, moments_of, principal_basis
from hyperspy_specml.train import History, LibraryPairs, fit, one_thread

if TYPE_CHECKING:
    from hyperspy_specml.decompose import Track
    from hyperspy_specml.run import TrainConfig

_LEAST_SPECTRA = 16
_MOST_AXES = 64
_KEPT = 0.05  # of the noise variance at the highest dose: what lies along axes with less is not missed
_HELD_OUT = 8  # every so many spectra of the library only tell when to stop


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
        held-out spectra, in units of the noise and summed over channels, at the middle of the dose range.
    history
        Of the training.
    """

    denoiser: LibraryDenoiser
    mean: np.ndarray
    errors: dict[str, np.ndarray]
    history: History


def fit_library(
    spectra: np.ndarray, totals: tuple[float, float], config: TrainConfig, *, seed: int,
    device: torch.device, track: Track,
) -> LibraryFit:  # fmt: skip
    """Train a denoiser on noise-free spectra.

    Parameters
    ----------
    spectra
        (n, E) noise-free spectra, in any unit.
    totals
        Smallest and largest number of counts in a spectrum.
    config, seed, device, track
        Settings, seed of weights, noise and batches, torch device, and the progress bar around steps.

    Raises
    ------
    TooFewSpectraError
        Fewer than 16 spectra.
    TrainingDivergedError
        The loss diverged.
    """
    if len(spectra) < _LEAST_SPECTRA:
        raise TooFewSpectraError(
            f"A library of {len(spectra)} spectra teaches nothing: {_LEAST_SPECTRA} are the least, thousands "
            "are good, e.g. specml.datasets.fe_l_library(4000)."
        )
    shapes = spectra / spectra.sum(axis=1, keepdims=True, dtype=np.float64)
    held = np.arange(len(shapes)) % _HELD_OUT == 0
    basis = _basis(shapes[~held], totals[1])
    scores = basis.project(shapes[~held])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Shrinkage(basis.n_vectors, 2 * config.n_hidden, config.n_layers + 1).to(device)
    denoiser = LibraryDenoiser(
        basis, np.full(basis.n_vectors, 1 / np.sqrt(totals[0] * totals[1]) ** 0.5),
        scores.mean(axis=0, dtype=np.float64), np.maximum(scores.var(axis=0, dtype=np.float64), 1e-30),
        1 / np.sqrt(np.array(totals[::-1])), network,
    )  # fmt: skip

    def pairs(rows: np.ndarray, other: int, batch_size: int) -> LibraryPairs:
        return LibraryPairs(
            *(torch.as_tensor(v, dtype=torch.float32, device=device) for v in (
                rows, basis.vectors * basis.weights[:, None], denoiser.centre, denoiser.variance)),
            totals=totals, batch_size=batch_size, generator=torch.Generator().manual_seed(other),
        )  # fmt: skip

    with one_thread(device):
        test = pairs(shapes[held], seed + 1, int(held.sum()))
        batches = [test.draw() for _ in range(4)]

        def score(network: torch.nn.Module) -> float:
            with torch.inference_mode():
                return sum(float(test.error(network, *batch)) for batch in batches) / len(batches)

        loss = pairs(shapes[~held], seed, config.batch_size // 2)
        history = fit(network, loss, config, score=score, track=track)
    errors = _errors(denoiser, shapes[held], float(np.sqrt(totals[0] * totals[1])), seed)
    return LibraryFit(denoiser, shapes.mean(axis=0), errors, history)


def _basis(shapes: np.ndarray, most: float) -> PrincipalBasis:
    basis = principal_basis(moments_of(shapes), PoissonNoise(), n_vectors=_MOST_AXES)
    variance = basis.project(shapes).var(axis=0) * most  # over that of the noise at the highest dose
    return basis.first(int(max(1, (variance > _KEPT).sum())))


def _errors(denoiser: LibraryDenoiser, shapes: np.ndarray, total: float, seed: int) -> dict[str, np.ndarray]:
    """Return squared errors of held-out spectra at one dose, by candidate."""
    basis = denoiser.basis
    noisy = basis.project(np.random.default_rng(seed + 2).poisson(total * shapes) / total)
    clean = basis.project(shapes)
    share = denoiser.variance / (denoiser.variance + 1 / total)

    def error(found: np.ndarray) -> np.ndarray:
        return total * np.square(found - clean).sum(axis=1, dtype=np.float64)

    ranks = range(1, basis.n_vectors + 1)
    plain = [error(np.where(np.arange(basis.n_vectors) < k, noisy, 0)) for k in ranks]
    best = int(np.argmin([e.mean() for e in plain]))
    own = denoiser.with_noise(np.full(basis.n_vectors, 1 / np.sqrt(total)))
    totals = denoiser.totals(noisy)
    return {
        "library network": error(own.denoise_rows(noisy)),
        "Wiener filter": error(totals * (share * (noisy / totals - denoiser.centre) + denoiser.centre)),
        f"pca ({best + 1})": plain[best],
    }
