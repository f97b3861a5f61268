"""Files of six makers: finite scores, calibrated results, and a report that says something sensible."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.run import TrainConfig
from hyperspy_specml.signals import axis_spec

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore:Loading old file version"),  # of HyperSpy 1
]

FRAMES = "hyperspy-1.7.6/fei_SI_SuperX-HAADF_10frames_10x50.emd"
# file, options of hs.load, crop (navigation, signal), noise models that the data can have
MAPS = {
    "EDS": ("espm/88_ES-LP_G8_selection2_cropped2.hspy", {}, (np.s_[:31, :23], np.s_[:700]), "poisson"),
    "sparse lazy EDS": ("openncem/tilt_0.bcf", {"lazy": True}, (np.s_[90:127, 100:133], np.s_[:700]), "poisson"),
    "frames of an EDS map": (FRAMES, {"sum_frames": False}, (np.s_[:, :17, :5], np.s_[0.2:6.0]), "poisson"),
    "lazy vibrational EELS": (
        "pangroup/Example_BTO_deleted.dm4",
        {"lazy": True},
        (np.s_[:23], np.s_[:]),
        "poisson-gaussian",
    ),
    "float16 cathodoluminescence": ("lumispy/nanoparticles.hspy", {}, None, "gaussian poisson-gaussian"),
    "non-uniform Raman axis": (
        "rosettasciio/renishaw_test_streamline.wdf",
        {},
        (np.s_[:17, :19], np.s_[:]),
        "poisson-gaussian",
    ),
    "negative Raman values": (
        "ramanspy/THP1_map_001_L5.hspy",
        {},
        (np.s_[:, :23], np.s_[:]),
        "gaussian poisson-gaussian",
    ),
    "tiny values of rank 2, without noise": ("motokishiga/mn3o4_f2.hspy", {}, None, "gaussian poisson-gaussian"),
    "line scan": ("rosettasciio/test-MonoCL_spectrum-SI.dm4", {}, None, "poisson-gaussian"),
}
BRIEF = TrainConfig(max_steps=100, evaluate_every=50)


@pytest.fixture(params=MAPS)
def measured(request, data_folder):
    pytest.importorskip("lumispy")  # owns the signal types of the luminescence maps
    file, options, crop, noise = MAPS[request.param]
    if file.endswith(".emd"):
        pytest.importorskip("sparse")
    loaded = hs.load(data_folder / file, **options)
    signals = loaded if isinstance(loaded, list) else [loaded]  # images come along in some files
    signal = next(s for s in signals if s.axes_manager.signal_dimension == 1)
    return (signal.inav[crop[0]].isig[crop[1]] if crop else signal), noise.split()


def test_a_measured_map_is_decomposed(measured, unchanged, tmp_path):
    signal, noise = measured
    unchanged(signal)

    dec = signal.decomposition_ae(2, show_progressbar=False, config=BRIEF)

    report = dec.report
    assert report.noise_model["name"] in noise
    assert report.hold_out == "exact" or "poisson" not in noise  # counts can be split exactly
    for one in (dec, dec.baseline):
        assert np.isfinite(one.scores.data).all()
        assert np.isfinite(one.components.data).all()
    assert all(np.isfinite([c.score, c.difference, c.standard_error]).all() for c in report.candidates)
    assert dec.reconstruction._lazy == signal._lazy
    dec.plot().canvas.draw()
    dec.components.save(tmp_path / "components.hspy")
    again = hs.load(tmp_path / "components.hspy")
    assert axis_spec(again.axes_manager[-1]) == axis_spec(signal.axes_manager[-1])


def test_a_model_of_one_tilt_reads_the_next(data_folder, unchanged):
    one, other = (
        hs.load(data_folder / f"openncem/tilt_{angle}.bcf", lazy=True)[-1].inav[90:117, 100:123] for angle in (0, 10)
    )
    dec = one.decomposition_ae(1, architecture="pca", show_progressbar=False)

    again = unchanged(other).decomposition_ae(model=dec.model, show_progressbar=False)

    assert again.report.used["pixels"].keys() == {"used"}
    assert np.isfinite(again.scores.data).all()
    assert again.residual._lazy


@pytest.mark.parametrize(
    "file", ["usnist-tutorial/bare_core.hspy", "espm/88_ES-LP_G8_selection2_cropped2.hspy"], ids=["particles", "rock"]
)
def test_two_or_three_components_are_chosen_where_one_leaves_much_in_large_areas(data_folder, file):
    report = hs.load(data_folder / file).decomposition_ae(show_progressbar=False).report

    assert report.n_components in (2, 3)
    assert report.baseline_rank.chosen == 2
