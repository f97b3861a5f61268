"""No model gains or loses counts: in all, in every channel, in dim and in bright parts of the map."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.decompose import decompose
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.streaming import SpectrumStream

SHAPE, N_CHANNELS = (24, 28), 96
RUN = Run(TrainConfig(max_steps=60, evaluate_every=20))


def peak(centre, width=2.5):
    return np.exp(-0.5 * ((np.arange(N_CHANNELS) - centre) / width) ** 2)


def truth():
    """Two phases that vary along one axis, and an intensity that varies along the other; of mean total one."""
    share = np.linspace(0, 1, SHAPE[1])[None, :, None]
    phases = (1 - share) * (0.02 + peak(20) + peak(60)) + share * (0.02 + peak(35) + 0.5 * peak(60))
    spectra = np.linspace(0.7, 1.3, SHAPE[0])[:, None, None] * phases / phases.sum(axis=2, keepdims=True)
    return spectra / spectra.sum(axis=2).mean()


@pytest.mark.parametrize("dose", [5, 50])
@pytest.mark.parametrize("architecture", ["dense", "simplex", "pca"])
def test_totals_are_kept_in_all_and_in_dim_and_bright_quarters(architecture, dose):
    counts = np.random.default_rng(11).poisson(dose * truth()).astype(np.uint8)
    found = decompose(SpectrumStream(counts), RUN, architecture=architecture, n_components=2)
    spectra = found.model.decode(found.scores).reshape(*SHAPE, -1)
    kept = counts[..., found.prepared.summary.channels]

    assert spectra.sum() == pytest.approx(kept.sum(), rel=0.01)
    for quarter in (slice(0, 6), slice(18, 24)):  # by the truth, not by the noise of the counts
        assert spectra[quarter].sum() == pytest.approx(kept[quarter].sum(), rel=0.03)
    if architecture == "dense":
        windows = np.arange(0, kept.shape[-1], 12)  # of single channels the counts themselves know less
        here, there = (np.add.reduceat(one.sum(axis=(0, 1)), windows) for one in (spectra, kept.astype(float)))
        np.testing.assert_allclose(here, there, rtol=0.01, atol=3)
        np.testing.assert_allclose(found.scores[:, 2], kept.sum(axis=2).reshape(-1), rtol=0.01, atol=0.05)
