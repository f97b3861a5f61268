"""The encoder that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.encoders._eds import FILE, STEPS, train


def test_the_encoder_in_the_package_is_what_its_command_trains() -> None:
    shipped, anew = specml.encoders.eds(), train(1)
    assert FILE.stat().st_size < 5e6
    assert shipped.report["steps"][-1] == STEPS
    assert shipped.report["scores"][-1] < shipped.report["scores"][0] / 2
    for one, other in zip(shipped.encoder.pure, anew.encoder.pure, strict=True):
        assert (one == other).all()  # of the same elements, lines and detector
    assert shipped.encoder.grids == anew.encoder.grids
    own, new = shipped.encoder.scales[0], anew.encoder.scales[0]
    assert (own.centre == new.centre).all()  # of the same random spectra
    assert {k: shipped.report[k] for k in ("objective", "random_state", "corpus")} == {
        k: anew.report[k] for k in ("objective", "random_state", "corpus")
    }


def test_it_tells_the_phases_of_an_alloy() -> None:
    simulated = specml.datasets.fe_cr_ni_map((12, 12), texture="grains", n_channels=512, dose=400)
    truth = simulated.truth["abundances"].data.argmax(axis=0)
    labels = np.where(np.arange(144).reshape(12, 12) % 3 == 0, truth, -1)
    encoder = specml.encoders.eds()
    for method in ("likelihood", "parameters", "linear"):
        found = encoder.fine_tune(simulated.signal, labels, method).classify(simulated.signal)
        right = np.array([int(name) for name in found.names])[found.labels.data] == truth
        assert right[labels == -1].mean() > 0.8, method


@pytest.mark.parametrize(("first", "last"), [(0.0, 10.0), (0.0, 8.5), (0.4, 20.0)])
def test_cut_spectra_embed_as_whole_ones(first: float, last: float) -> None:
    signal = specml.datasets.fe_cr_ni_map((9, 7), n_channels=1024, dose=500).signal
    whole, cut = (specml.encoders.eds().embed(one).data for one in (signal, signal.isig[first:last]))
    cosine = (whole * cut).sum(axis=0) / np.linalg.norm(whole, axis=0) / np.linalg.norm(cut, axis=0)
    assert cosine.min() > 0.97
