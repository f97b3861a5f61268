"""The three methods, with whatever versions are installed: `make test-lowest` runs this with the lowest ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.datasets import RarePhase, fe_cr_ni_map

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"show_progressbar": False}
BRIEF = QUIET | {"config": specml.TrainConfig(max_steps=60, evaluate_every=20)}


@pytest.fixture(scope="module")
def simulated():
    return fe_cr_ni_map((19, 20), n_channels=128, dose=300, rare_phase=RarePhase(9))


def error(signal, simulated):
    """Root mean square error over that of the counts."""
    clean = simulated.clean.data
    found = np.asarray(signal.data)
    return np.sqrt(np.square(found - clean).mean() / np.square(simulated.signal.data - clean).mean())


@pytest.mark.parametrize("lazy", [False, True])
def test_pca_keeps_the_signal_and_drops_the_noise(simulated, lazy):
    signal = simulated.signal.as_lazy() if lazy else simulated.signal
    dec = signal.decomposition_ae(4, architecture="pca", **QUIET)
    assert error(dec.reconstruction, simulated) < 0.6
    assert dec.report.noise_model["name"] == "poisson"


def test_a_brief_training_is_as_good_as_pca_its_start(simulated):
    dense = simulated.signal.decomposition_ae(3, **BRIEF)
    assert error(dense.reconstruction, simulated) < 1.1 * error(dense.baseline.reconstruction, simulated)


@pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.RemovedSignalWarning")
def test_denoising_is_better_than_pca(simulated):
    clean = simulated.signal.denoise_dae(context="spatial", **BRIEF)
    pca = simulated.signal.decomposition_ae(4, architecture="pca", **QUIET).reconstruction
    assert error(clean, simulated) < error(pca, simulated)


def test_a_rare_phase_is_found(simulated):
    found = simulated.signal.anomaly_map(output_dimension=3, **QUIET)
    rare = simulated.rare_mask.data
    assert found.detections.data[rare].mean() > 0.7
    assert found.detections.data[~rare].mean() < 0.02


def test_a_result_comes_back_from_its_file(simulated, tmp_path):
    dec = simulated.signal.decomposition_ae(3, architecture="pca", **QUIET)
    again = specml.load_result(dec.save(tmp_path / "run"))
    np.testing.assert_array_equal(again.reconstruction.data, dec.reconstruction.data)


def test_the_lowest_versions_are_those_that_are_promised():
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    bounds = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", line)[0] for line in promised if ">=" in line)
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
    exact = {name: re.sub(r"(\.0)+$", "", version) for name, version in (pinned | {"torch": bounds["torch"]}).items()}
    assert exact == {name: re.sub(r"(\.0)+$", "", version) for name, version in bounds.items()}
