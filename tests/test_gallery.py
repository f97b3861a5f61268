"""The scripts of the tutorial and the gallery run, on smaller maps and with shorter trainings than on its pages."""

from __future__ import annotations

import runpy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hyperspy_specml as specml

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.datasets import SimulatedMap

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCRIPTS = sorted(path for folder in ("gallery", "tutorial") for path in (DOCS / folder).glob("*.py"))


def _small(full: Callable[..., SimulatedMap], shape: tuple[int, ...], **options: Any) -> SimulatedMap:
    return full(tuple(size // 3 for size in shape), **{**options, "n_channels": 128})


def _no_network(name: str, **options: Any) -> Path:
    raise specml.exceptions.DownloadError(f"{name} is not here: no test uses a network.")


@pytest.fixture
def _small_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fe_cr_ni_map", "fe_l_map"):
        monkeypatch.setattr(specml.datasets, name, partial(_small, getattr(specml.datasets, name)))


@pytest.mark.filterwarnings("ignore:.*PCA of the same size is better")  # after so short a training
@pytest.mark.usefixtures("_small_maps", "brief_training", "few_drawn_pixels")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_script_runs(script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(specml.data, "fetch", _no_network)

    runpy.run_path(str(script))


def test_there_are_scripts() -> None:
    assert {
        "alloy_phases",
        "alloy_triangle",
        "anomaly_couple",
        "drift_alignment",
        "eds_unmixing",
        "iron_valence",
        "large_file",
        "live_session",
        "measured_map",
        "next_map",
        "pretraining",
        "rare_phase_doses",
        "tutorial_1_pca",
        "tutorial_2_autoencoder",
        "tutorial_3_denoising",
        "uncertainty",
    } <= {script.stem for script in SCRIPTS}
