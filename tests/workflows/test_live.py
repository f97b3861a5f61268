"""`LiveMonitor`: native maps of the part that was scanned, from blocks, replays and growing files."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import SpecMLError
from hyperspy_specml.workflows._live_scan import calibrated

if TYPE_CHECKING:
    from pathlib import Path

    from hyperspy.signals import Signal1D

SHAPE = (18, 16)  # (nx, ny)


@pytest.fixture(scope="module")
def signal() -> Signal1D:
    simulated = specml.datasets.fe_cr_ni_map(SHAPE[::-1], n_channels=128, dose=200, texture="grains", n_phases=2)
    return simulated.signal


def monitor_of(signal: Signal1D, **options: Any) -> specml.LiveMonitor:
    return specml.LiveMonitor(SHAPE, signal, **{"order": "grid", "beside": False} | options)


@pytest.fixture(scope="module")
def scanned(signal: Signal1D) -> specml.LiveMonitor:
    monitor = monitor_of(signal)
    for _ in monitor.replay(signal):
        pass
    return monitor


def test_maps_are_native_and_in_place(signal: Signal1D, scanned: specml.LiveMonitor) -> None:
    assert scanned.n_spectra == 288
    maps = (scanned.novelty, scanned.score, scanned.intensity, scanned.residual_map, scanned.phases.labels)
    for one in maps:
        assert one.axes_manager.navigation_shape == SHAPE
        assert one.axes_manager[0].scale == signal.axes_manager[0].scale
        assert one.axes_manager[0].units == signal.axes_manager[0].units
    assert (scanned.intensity.data == signal.data.sum(axis=-1)).all()
    assert np.isfinite(scanned.novelty.data).all()


def test_phases_are_native(signal: Signal1D, scanned: specml.LiveMonitor) -> None:
    phases = scanned.phases
    assert len(phases) == scanned.n_phases == 2
    assert type(phases.spectra) is type(signal)
    assert phases.spectra.axes_manager[-1].scale == signal.axes_manager[-1].scale
    assert phases.probability.axes_manager.signal_shape == SHAPE
    assert phases.probability.data.sum(axis=0) == pytest.approx(1)
    for k in range(2):  # the sum of the pixels that are clearly of the phase
        own = signal.data[phases.labels.data == k].sum(axis=0)
        one = phases.spectra.data[k]
        assert np.corrcoef(own, one)[0, 1] > 0.98
        assert one.sum() < 1.1 * own.sum()


def test_the_picture_has_map_spectra_and_words(scanned: specml.LiveMonitor) -> None:
    figure = scanned.plot()
    assert len(figure.axes) >= 2
    assert any("no phase not yet met" in text.get_text() for text in figure.texts)
    assert scanned.plot(figure) is figure
    plt.close("all")


@pytest.mark.parametrize("energy", ["axis", "dict", "array"])
def test_an_axis_is_enough(signal: Signal1D, energy: str) -> None:
    axis = signal.axes_manager.signal_axes[0]
    given = {"axis": axis, "dict": axis.get_axis_dictionary(), "array": axis.axis}[energy]
    monitor = specml.LiveMonitor(SHAPE, given)
    monitor.update(signal.data[0])
    assert monitor.intensity.data[0].sum() == signal.data[0].sum()
    assert np.allclose(monitor._template.axes_manager.signal_axes[0].axis, axis.axis)
    assert "18 of 288 pixels" in repr(monitor)


def test_positions_are_x_and_y(signal: Signal1D) -> None:
    monitor = monitor_of(signal)
    monitor.update(signal.data[3, 5], [[5, 3]])
    assert monitor._monitor.visits.reshape(SHAPE[::-1]).nonzero() == (np.array([3]), np.array([5]))


def test_blocks_without_positions_follow_the_order(signal: Signal1D) -> None:
    one, other = monitor_of(signal), monitor_of(signal)
    where = specml.scan_order(SHAPE, "grid")
    for start in range(0, 288, 50):
        some = where[start : start + 50]
        rows = signal.data[some[:, 1], some[:, 0]]
        one.update(rows)
        other.update(hs.signals.Signal1D(rows), some)
    assert (one.intensity.data == other.intensity.data).all()
    assert (one.phases.labels.data == other.phases.labels.data).all()


def test_a_pixel_that_comes_twice_is_in_the_next_frame(signal: Signal1D) -> None:
    monitor = monitor_of(signal)
    monitor.update(np.concatenate([signal.data[0], signal.data[0]]), [[x, 0] for x in range(18)] * 2)
    assert (monitor._monitor.visits[:18] == 2).all()
    assert monitor._monitor.frames.n_pixels == [18, 18]


def test_lazy_replays_as_eager(signal: Signal1D, scanned: specml.LiveMonitor) -> None:
    monitor = monitor_of(signal)
    list(monitor.replay(signal.as_lazy()))
    assert (monitor.phases.labels.data == scanned.phases.labels.data).all()


def test_a_growing_file_is_followed(signal: Signal1D, tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    array = np.lib.format.open_memmap(path, "w+", signal.data.dtype, signal.data.shape)

    def write() -> None:
        for y, line in enumerate(signal.data):
            array[y] = line
            array.flush()

    writer = threading.Thread(target=write)
    writer.start()
    monitor = specml.LiveMonitor(SHAPE, signal, beside=False)
    for _ in monitor.watch(path, timeout=20):
        pass
    writer.join()
    assert (monitor.intensity.data == signal.data.sum(axis=-1)).all()


def test_a_file_of_hyperspy_is_followed(signal: Signal1D, tmp_path: Path) -> None:
    signal.inav[:, :10].save(tmp_path / "scan.hspy")
    monitor = specml.LiveMonitor(SHAPE, signal, beside=False)
    assert list(monitor.watch(tmp_path / "scan.hspy", timeout=0.2)) == monitor.events
    assert monitor.n_spectra == 180
    assert np.isnan(monitor.novelty.data[10:]).all()


def test_a_saved_monitor_goes_on(signal: Signal1D, scanned: specml.LiveMonitor, tmp_path: Path) -> None:
    monitor, where = monitor_of(signal), specml.scan_order(SHAPE, "grid")
    rows = signal.data[where[:, 1], where[:, 0]]
    for start in range(0, 270, 18):
        monitor.update(rows[start : start + 18])
    path = monitor.save(tmp_path / "state")
    with pytest.raises(SpecMLError, match=r"holds no trained model. Read it by specml.LiveMonitor.load\("):
        specml.load_model(path)
    assert path.suffix == ".specml"
    for again in (specml.LiveMonitor.load(path, signal), specml.LiveMonitor.load(path)):
        again.update(rows[270:])
        assert (again.phases.labels.data == scanned.phases.labels.data).all()
        assert again.intensity.axes_manager[0].units == signal.axes_manager[0].units
    with pytest.raises(SpecMLError, match="overwrite"):
        monitor.save(path)
    (tmp_path / "bad.specml").write_bytes(b"no")
    with pytest.raises(SpecMLError):
        specml.LiveMonitor.load(tmp_path / "bad.specml")
    encoder = specml.encoders.eds().save(tmp_path / "encoder")  # a file of another kind
    with pytest.raises(SpecMLError, match="no state of a monitor"):
        specml.LiveMonitor.load(encoder)


def test_known_phases_are_where_a_scan_begins(signal: Signal1D, strange: Any) -> None:
    model = signal.phase_map(2, show_progressbar=False).model
    monitor = monitor_of(signal, reference=model)
    assert list(monitor.replay(signal)) == []
    assert monitor.n_phases == 2
    second = monitor_of(signal, reference=model)
    events = list(second.replay(strange.signal))
    rare = strange.rare_mask.data
    assert any(isinstance(event, specml.NewPhase) and rare[event.position[::-1]] for event in events)
    assert str(events[0]).endswith(f"strongest excess at {events[0].energy:.4g} keV")


@pytest.fixture(scope="module")
def strange() -> Any:
    return specml.datasets.fe_cr_ni_map(
        SHAPE[::-1], n_channels=128, dose=200, texture="grains", n_phases=2,
        rare_phase=specml.datasets.RarePhase(n_pixels=9),
    )  # fmt: skip


@pytest.mark.parametrize("of", ["decomposition", "anomalies"])
def test_a_model_is_where_a_scan_begins(signal: Signal1D, strange: Any, of: str, tmp_path: Path) -> None:
    if of == "decomposition":
        model = signal.decomposition_ae(2, architecture="pca", show_progressbar=False).model
    else:
        model = signal.anomaly_map(show_progressbar=False).model
    monitor = monitor_of(signal, reference=model)
    assert list(monitor.replay(signal)) == []
    assert monitor.n_phases == 1
    second = monitor_of(signal, reference=model)
    events = list(second.replay(strange.signal))
    rare = strange.rare_mask.data
    assert events
    assert all(rare[event.position[::-1]] for event in events)
    assert (second.phases.labels.data[rare] > 0).mean() > 0.7
    assert (second.phases.labels.data[~rare] > 0).mean() < 0.05
    again = specml.LiveMonitor.load(second.save(tmp_path / "state"), signal)
    assert again.n_phases == second.n_phases
    assert again.update(signal.data[0], [[x, 0] for x in range(18)]) == ()


def test_the_residual_is_that_of_the_autoencoder(signal: Signal1D, scanned: specml.LiveMonitor) -> None:
    monitor = monitor_of(signal, training_seconds=1e-4, n_components=2)
    list(monitor.replay(signal, block=96))
    online = monitor._monitor.autoencoder
    assert online is not None
    assert monitor.residual_map.data.ravel() == pytest.approx(online.residuals(monitor._monitor.kept.values), rel=1e-4)
    assert scanned._monitor.autoencoder is None


def test_that_no_more_phases_are_told_of_is_said_once_also_after_a_reload(
    signal: Signal1D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hyperspy_specml.live._monitor._MOST_PHASES", 1)
    first = monitor_of(signal)
    order = specml.scan_order(SHAPE, "grid")
    first.update(signal.data[order[:270, 1], order[:270, 0]], order[:270])
    monitor = specml.LiveMonitor.load(first.save(tmp_path / "state"), signal)
    strange = np.zeros((18, 128), np.uint16)
    strange[:, 100:104] = 50  # a line that no phase has
    with caplog.at_level("WARNING", "hyperspy_specml"):
        for start in (270, 279):
            monitor.update(strange[:9], order[start : start + 9])
    assert caplog.text.count("are as many as are told of") == 1


def damage_of(element: str, energy: float) -> specml.Damage:
    """Return what a monitor says of a line at `energy` that decays, where the element is listed beside the alloy's."""
    template = specml.datasets.fe_cr_ni_map((4, 4), n_channels=512, n_phases=3).signal
    template.add_elements([element])
    axis, rng = template.axes_manager.signal_axes[0], np.random.default_rng(0)
    mean = template.data.sum(axis=(0, 1)) / template.data.sum()
    monitor = specml.LiveMonitor((4, 4), template, beside=False)
    line = np.exp(-0.5 * ((axis.axis - energy) / 0.04) ** 2)
    events: list[Any] = []
    for frame in range(12):
        counts = rng.poisson(2000 * (mean + 0.05 * 0.9**frame * line / line.sum()), (16, axis.size))
        events += monitor.update(counts.astype(np.uint16))
    assert not any(isinstance(event, specml.EnergyDrift) for event in events)
    return next(event for event in events if isinstance(event, specml.Damage))


def test_damage_names_the_element() -> None:
    damage = damage_of("Nb", 2.166)
    assert damage.elements[0] == "Nb"
    assert damage.rate < 0
    assert abs(damage.energy - 2.166) < damage.width
    assert f" at {damage.energy:.4g} keV (Nb" in str(damage)


@pytest.mark.parametrize(("units", "said"), [("eV", "+0.02 ± 0.003 eV"), (None, "+0.02 ± 0.003")])
def test_a_drift_is_told_with_its_error_in_units_of_the_axis(units: str | None, said: str) -> None:
    template = hs.signals.Signal1D(np.zeros((4, 4, 64)))  # whose axis has no units yet
    axis = template.axes_manager.signal_axes[0]
    axis.scale = 0.01
    if units:
        axis.units = units
    drift = calibrated(specml.EnergyDrift(1.0, 160, frame=10, shift=2.0, error=0.3), template, None)
    assert str(drift) == f"frame 10: the energy axis has moved by {said}"


def test_an_element_with_another_line_that_stays_does_not_decay() -> None:
    """Half way between the lines O K and Cr L: counts alone speak for either, Cr K at 5.41 keV stays."""
    assert damage_of("O", 0.55).elements[0] == "O"


def test_dwell_times_need_a_whole_scan(signal: Signal1D, scanned: specml.LiveMonitor) -> None:
    dwell = scanned.next_dwell(288.0, max_ratio=3)
    assert dwell.data.sum() == pytest.approx(288)
    assert dwell.data.max() <= 3 + 1e-6
    half = monitor_of(signal)
    half.update(signal.data.reshape(-1, 128)[:280], specml.scan_order(SHAPE, "raster")[:280])
    with pytest.raises(SpecMLError, match="8 pixels have not been scanned"):
        half.next_dwell(288.0)
    few = specml.datasets.fe_cr_ni_map(SHAPE[::-1], n_channels=128, dose=4, texture="grains", n_phases=2).signal
    first = monitor_of(few)
    list(first.replay(few))
    with pytest.raises(SpecMLError, match="held-out counts do not tell"):
        first.next_dwell(288.0)
    for bad in ({"total": 0.0}, {"total": np.nan}, {"total": 1.0, "max_ratio": 0.5}):
        with pytest.raises(SpecMLError, match="next_dwell"):
            scanned.next_dwell(**bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"navigation_shape": (0, 4)}, "navigation_shape"),
        ({"navigation_shape": 5}, "navigation_shape"),
        ({"order": "spiral"}, "spiral"),
        ({"order": np.zeros((288, 2), int)}, "every pixel"),
        ({"order": np.zeros((3, 2), int)}, "every pixel"),
        ({"energy_axis": np.zeros((2, 2))}, "energy_axis"),
        ({"reference": "nowhere.specml"}, "nowhere"),
        ({"training_seconds": -1.0}, "training_seconds"),
    ],
)
def test_bad_monitors_are_refused(signal: Signal1D, arguments: dict, message: str) -> None:
    with pytest.raises((SpecMLError, FileNotFoundError), match=message):
        specml.LiveMonitor(**{"navigation_shape": SHAPE, "energy_axis": signal} | arguments)


@pytest.mark.parametrize(
    ("block", "positions", "message"),
    [
        (np.zeros((2, 100)), None, "128 channels"),
        (np.zeros(()), None, "128 channels"),
        (np.zeros((2, 128), complex), None, "real numbers"),
        (np.zeros((2, 128)), [[0, 0]], "2 spectra"),
        (np.zeros((1, 128)), [[0.5, 0]], "whole numbers"),
        (np.zeros((1, 128)), [[18, 0]], "outside"),
        (np.zeros((1, 128)), [[0, -1]], "outside"),
    ],
)
def test_bad_blocks_are_refused_and_nothing_is_lost(
    signal: Signal1D, scanned: specml.LiveMonitor, block: np.ndarray, positions: Any, message: str
) -> None:
    before = scanned.n_spectra
    with pytest.raises(SpecMLError, match=message):
        scanned.update(block, positions)
    assert scanned.n_spectra == before


def test_without_spectra_there_are_no_phases(signal: Signal1D) -> None:
    monitor = monitor_of(signal)
    assert monitor.update(np.zeros((0, 128))) == ()
    assert monitor.unseen.bound is None
    with pytest.raises(SpecMLError, match="256 spectra to begin with"):
        monitor.phases  # noqa: B018  (the access is the test)
    assert len(monitor.plot().axes) >= 1
    plt.close("all")
