from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.signals import axis_spec, component_spectra, energy_axis, navigation_map, score_maps, spectra_of
from hyperspy_specml.signals._source import like

pytestmark = pytest.mark.realdata

# file, options of hs.load, shape in array order, dtype
MAPS = {
    "float16 cathodoluminescence": ("lumispy/nanoparticles.hspy", {}, (15, 20, 507), "f2"),
    "non-uniform Raman axis": ("rosettasciio/renishaw_test_streamline.wdf", {}, (49, 45, 394), "f4"),
    "line scan": ("rosettasciio/test-MonoCL_spectrum-SI.dm4", {}, (67, 1336), "f4"),
    "frames of a map": (
        "hyperspy-1.7.6/fei_SI_SuperX-HAADF_10frames_10x50.emd",
        {"sum_frames": False},
        (10, 50, 10, 4096),
        "u2",
    ),
    "lazy vibrational EELS": ("pangroup/Example_BTO_deleted.dm4", {"lazy": True}, (34, 34, 794), "f4"),
}


@pytest.fixture(params=MAPS)
def measured(request, data_folder):
    pytest.importorskip("lumispy")  # owns the signal types of the luminescence maps
    file, options, shape, dtype = MAPS[request.param]
    if file.endswith(".emd"):
        pytest.importorskip("sparse")
    loaded = hs.load(data_folder / file, **options)
    signals = loaded if isinstance(loaded, list) else [loaded]  # images come along in some files
    signal = next(s for s in signals if s.axes_manager.signal_dimension == 1)
    return signal, shape, np.dtype(dtype)


def test_a_measured_map_is_read_in_place(measured, unchanged):
    signal, shape, dtype = measured
    unchanged(signal)

    spectra = spectra_of(signal, method="test")

    assert spectra.array.shape == shape
    assert spectra.array.dtype == dtype
    assert signal._lazy or np.shares_memory(spectra.array, signal.data)


def test_results_of_a_measured_map_reopen_calibrated(measured, unchanged, tmp_path):
    signal, shape, _ = measured
    unchanged(signal)
    zeros = np.zeros(shape, np.float32)
    spectra = da.from_array(zeros) if signal._lazy else zeros
    scan = [axis_spec(axis) for axis in signal.axes_manager.navigation_axes]
    energy = axis_spec(energy_axis(signal))
    results = [
        (like(signal, spectra, title="new"), [*scan, energy]),
        (score_maps(signal, zeros[..., :2], title="scores"), scan),
        (component_spectra(signal, zeros.reshape(-1, shape[-1])[:2], title="components"), [energy]),
        (navigation_map(signal, zeros[..., 0], title="map"), scan),
    ]

    assert type(results[0][0]) is type(signal)
    for result, axes in results:
        result.save(tmp_path / "result.hspy", overwrite=True)
        again = hs.load(tmp_path / "result.hspy")
        manager = again.axes_manager
        specs = [axis_spec(axis) for axis in manager.navigation_axes + manager.signal_axes]
        assert specs[-len(axes) :] == axes
        assert again.metadata.General.title == result.metadata.General.title
        assert again.metadata.Signal.signal_type == result.metadata.Signal.signal_type
