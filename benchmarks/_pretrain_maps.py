"""Near-twin phases, pretrained encoders of them, and what both benchmarks of pretraining do with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import hyperspy.api as hs
import numpy as np

import hyperspy_specml as specml

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hyperspy.signals import BaseSignal

SEEDS = 3  # of pretraining; draws of labels take one after the other


def pretrained(
    signals: list[BaseSignal], objective: str, options: argparse.Namespace, *, seeds: int = SEEDS, **more: Any
) -> list[specml.Encoder]:
    """Return an encoder of each seed."""
    config = specml.TrainConfig(max_steps=options.steps, evaluate_every=max(1, options.steps // 10))
    return [
        specml.pretrain(signals, objective, config=config, random_state=seed, show_progressbar=False, **more)
        for seed in range(min(seeds, options.draws))
    ]


def of_draw(encoders: dict[str, list[specml.Encoder]], draw: int) -> dict[str, specml.Encoder]:
    """Return those of one seed after the other, so that errors over the draws hold that of pretraining."""
    return {name: several[draw % len(several)] for name, several in encoders.items()}


def twin_spectra(n_channels: int, seed: int = 11, n: int = 12) -> tuple[BaseSignal, np.ndarray]:
    """Return a signal of the kind, and the (n, E) spectra, in sum one, of phases of Fe, Cr, Ni and O."""
    template = specml.datasets.fe_cr_ni_map((2, 2), n_channels=n_channels, n_phases=4)
    assert template.endmembers is not None
    pure = template.endmembers.data / template.endmembers.data.sum(axis=1, keepdims=True)
    shares = np.random.default_rng(seed).dirichlet(np.full(len(pure), 0.5), n)
    return template.signal.inav[0, 0], shares @ pure


def twin_map(classes: np.ndarray, dose: float, seed: int, n_channels: int) -> BaseSignal:
    """Return spectra of twelve phases of the same four elements, some of which differ by a few per cent."""
    signal, spectra = twin_spectra(n_channels)
    counts = np.random.default_rng(seed).poisson(np.maximum(dose * spectra[classes], 0)).astype(np.float32)
    return of_kind(signal, counts)


def of_kind(signal: BaseSignal, rows: np.ndarray) -> BaseSignal:
    """Return (n, E) spectra as a line of such a signal."""
    axes = [{"size": len(rows), "navigate": True}, signal.axes_manager.signal_axes[0].get_axis_dictionary()]
    found = hs.signals.BaseSignal(rows, axes=axes, metadata=signal.metadata.as_dictionary())
    found._assign_subclass()
    return found


def twin_library(sigma: float, n_channels: int) -> BaseSignal:
    """Return noise-free spectra of eight other phases of these elements.

    Parameters
    ----------
    sigma
        By which lines are wider, channels; where they are, the detector also passes half at low energy.
    n_channels
        Of the spectra.
    """
    from scipy.ndimage import gaussian_filter1d

    signal, spectra = twin_spectra(n_channels, seed=77, n=8)
    if sigma:
        energy = signal.axes_manager.signal_axes[0].axis  # keV
        spectra = gaussian_filter1d(spectra, sigma, axis=-1) * (1 - 0.5 * np.exp(-energy))
    return of_kind(signal, spectra)


def tuned(encoder: specml.Encoder, signal: BaseSignal, labels: np.ndarray, method: str) -> specml.Predictor:
    """Return the predictor, without errors of values: for these, networks are trained five more times."""
    with mock.patch("hyperspy_specml.workflows._encoder.errors_of", return_value=None):
        return encoder.fine_tune(signal, labels, method)


def right(found: np.ndarray, truth: np.ndarray, unseen: np.ndarray, *, values: bool) -> float:
    """Return R2 of values, or the balanced accuracy of classes, of the spectra without label."""
    if values:
        return float(1 - np.square(found - truth)[unseen].mean() / truth[unseen].var())
    return float(np.mean([(found[unseen & (truth == c)] == c).mean() for c in np.unique(truth[unseen])]))


def labelled_sets(options: argparse.Namespace) -> Iterator[tuple[str, BaseSignal, np.ndarray]]:
    """Yield name, spectra and (n,) classes of the labelled sets that are in the folder of data."""
    for name, scale in (("ftir_collagen", "wavenumber"), ("xrd_autoxrd_dimensionality", "two_theta")):
        path = options.data / "labelled" / f"{name}.npz"
        if not path.exists():
            continue
        held = np.load(path, allow_pickle=False)
        centres = held[scale]
        order = np.argsort(centres)
        axes = [{"size": len(held["X"]), "navigate": True}, {"axis": centres[order], "units": scale, "navigate": False}]
        signal = hs.signals.Signal1D(np.maximum(held["X"][:, order], 0), axes=axes)
        yield name, signal, np.unique(held["y"], return_inverse=True)[1]
