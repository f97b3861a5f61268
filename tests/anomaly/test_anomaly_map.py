"""``s.anomaly_map()`` keeps its contract."""

from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.datasets import RarePhase, ShiftedEdge, fe_cr_ni_map, fe_l_map
from hyperspy_specml.exceptions import EnergyAxisMismatchError, NavigationRequiredError, OptionError

pytestmark = pytest.mark.usefixtures("few_drawn_pixels")
SHAPE = (29, 37)


def simulated(**options):
    options = {"n_channels": 257, "dose": 400, "rare_phase": RarePhase(12, 0.6), "random_state": 2} | options
    return fe_cr_ni_map(SHAPE, **options)


def search(signal, **options):
    return signal.anomaly_map(show_progressbar=False, **options)


@pytest.fixture(scope="module")
def rare():
    return simulated()


@pytest.fixture(scope="module")
def found(rare):
    return search(rare.signal)


def test_the_planted_phase_is_found_and_named(rare, found):
    assert len(found.regions) == 1
    (region,) = found.regions
    planted = rare.rare_mask.data
    hit = np.zeros(SHAPE, bool)
    for x, y in region.pixels:
        hit[y, x] = True
    assert (hit & planted).sum() >= 0.8 * planted.sum()
    assert hit.sum() <= 2 * planted.sum()
    assert region.direction == "excess"
    assert region.excess > 0
    assert region.p < 1e-6
    assert "Nb" in [candidate.element for candidate in region.candidates[:3]]
    assert region.energy == pytest.approx(2.166, abs=0.13)


@pytest.mark.parametrize("fdr", [1e-12, 0.2])
def test_another_false_discovery_rate_gives_what_a_new_search_gives(rare, found, fdr):
    again, anew = found.at_fdr(fdr, show_progressbar=False), search(rare.signal, fdr=fdr)

    np.testing.assert_array_equal(again.score.data, anew.score.data)
    assert repr(again.regions) == repr(anew.regions)
    assert repr(again.at_fdr(0.01, show_progressbar=False).regions) == repr(found.regions)


def test_maps_are_navigation_signals_with_the_axes_of_the_input(rare, found):
    for signal in (found.score, found.p_value, found.detections, found.energy):
        manager = signal.axes_manager
        assert (manager.navigation_shape, manager.signal_dimension) == (SHAPE[::-1], 0)
        assert [a.scale for a in manager.navigation_axes] == [2.0, 2.0]
        assert not signal._lazy
        assert specml.provenance(signal)["n_components"] >= 3
    assert found.detections.data.dtype == bool
    assert found.detections.data.sum() == found.regions[0].n_pixels


def test_region_spectra_are_of_the_class_of_the_input(rare, found):
    (region,) = found.regions
    assert isinstance(found.spectra, type(rare.signal))
    chosen = np.mean([rare.signal.data[y, x] for x, y in region.pixels], axis=0)
    used = np.isfinite(found.spectra.data[0])
    np.testing.assert_allclose(found.spectra.data[0][used], chosen[used], rtol=1e-6)
    assert found.residuals.axes_manager.shape == (1, 257)


def test_lazy_is_eager_whatever_the_chunks(rare, found, unchanged):
    lazy = rare.signal._deepcopy_with_new_data(da.from_array(rare.signal.data, chunks=(8, 11, 100))).as_lazy()

    again = search(unchanged(lazy))

    np.testing.assert_allclose(again.score.data, found.score.data, rtol=1e-4, atol=1e-4)
    assert [r.pixels for r in again.regions] == [r.pixels for r in found.regions]


def test_a_block_that_is_scanned_in_strips_is_scanned_as_a_whole(rare, found, monkeypatch):
    monkeypatch.setattr("hyperspy_specml.anomaly._score._STRIP_VALUES", 1)

    again = search(rare.signal)

    np.testing.assert_allclose(again.score.data, found.score.data, rtol=1e-4, atol=1e-4)
    assert again.spikes == found.spikes


def test_the_file_is_read_at_most_four_times(rare, counted):
    file = counted(rare.signal.data)
    lazy = rare.signal._deepcopy_with_new_data(file.dask((8, 37, 257))).as_lazy()

    search(lazy)

    assert file.reads.mean() <= 4


def test_repeated_with_the_same_seed_it_is_the_same(rare, found, unchanged):
    again = search(unchanged(rare.signal))

    np.testing.assert_array_equal(again.p_value.data, found.p_value.data)


def test_a_map_without_anything_rare_has_no_regions():
    found = search(simulated(rare_phase=None).signal)

    assert found.regions == ()
    assert found.spectra is None
    assert not found.detections.data.any()
    assert "0 regions" in repr(found)


def test_masked_pixels_are_left_out_and_one_without_counts_is_nothing_special(rare):
    signal = rare.signal.deepcopy()
    signal.data[3, 5] = 0
    mask = rare.rare_mask.data.copy()
    mask[0, 0] = True

    found = search(signal, navigation_mask=mask)

    assert found.regions == ()
    assert np.isnan(found.score.data[mask]).all()
    assert 0.01 < found.p_value.data[3, 5] <= 1


def test_a_phase_that_a_decomposition_has_learnt_is_ordinary(rare):
    known = rare.signal.decomposition_ae(4, architecture="pca", show_progressbar=False).model
    other = rare.counts(random_state=9)

    found = search(other, model=known)

    assert found.regions == ()


def test_a_model_of_a_map_without_the_phase_finds_it(rare):
    normal = simulated(rare_phase=None, random_state=5).signal
    model = normal.decomposition_ae(3, architecture="pca", show_progressbar=False).model

    found = search(rare.signal, model=model)

    assert any(rare.rare_mask.data[y, x] for region in found.regions for x, y in region.pixels)


def test_a_known_phase_is_ordinary_on_this_map_and_the_next(rare, found):
    other = simulated(random_state=3).signal

    assert search(rare.signal, known=found.spectra).regions == ()
    assert search(other).regions
    assert search(other, known=found.spectra).regions == ()


def test_an_unknown_phase_is_found_beside_a_known_one(rare, found):
    signal = rare.signal.deepcopy()
    signal.data[3:6, 30:33, 100:106] += 15

    (region,) = search(signal, known=found.spectra).regions

    assert all(y < 8 and x > 26 for x, y in region.pixels)


def test_known_spectra_are_added_to_a_model(rare, found):
    normal = simulated(rare_phase=None, random_state=5).signal
    model = normal.decomposition_ae(3, architecture="pca", show_progressbar=False).model

    assert search(rare.signal, model=model, known=found.spectra).regions == ()


def test_known_spectra_on_another_axis_or_none_are_refused(rare, found):
    with pytest.raises(EnergyAxisMismatchError, match=r"anomaly_map\(known=...\)"):
        search(rare.signal, known=found.spectra.isig[1:])
    with pytest.raises(OptionError, match=r"found.spectra.inav\[0\]"):
        search(rare.signal, known=found.spectra.data)


def changed(spectra, *, data):
    return spectra._deepcopy_with_new_data(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda found: list(found.regions), r"not list. Pass known=found.spectra"),
        (lambda found: found, r"not AnomalyResult. Pass known=found.spectra"),
        (lambda found: [found.spectra.inav[0]], r"hs.stack\(\[...\]\)"),
        (lambda found: [], r"not list"),
        (lambda found: found.spectra.T, r"not <BaseSignal"),
        (lambda found: changed(found.spectra, data=found.spectra.data + 1j), r"known.real"),
        (lambda found: changed(found.spectra, data=0 * found.spectra.data), r"spectrum 0 of 1 is zero"),
        (
            lambda found: changed(found.spectra, data=np.where(np.arange(257) // 10 == 8, np.nan, 1.0)[None]),
            r"not finite in 10 channels that have .*% of this map's counts, the first is 80",
        ),
    ],
)
def test_objects_that_are_no_known_spectra_are_refused(rare, found, make, message):
    with pytest.raises(OptionError, match=message):
        search(rare.signal, known=make(found))


def test_known_spectra_that_would_explain_everything_are_refused(rare):
    with pytest.raises(OptionError, match=r"with 1073 known spectra of 257 channels every spectrum would"):
        search(rare.signal, known=rare.signal)


def test_a_channel_that_is_not_searched_need_not_be_known(rare, found):
    channel = np.arange(257) // 10 == 8
    spectra = changed(found.spectra, data=np.where(channel, np.nan, found.spectra.data))

    assert search(rare.signal, known=spectra, signal_mask=channel).regions == ()


def test_channels_without_counts_in_another_map_have_none(rare, found):
    nothing = np.arange(257) == 0
    assert rare.signal.data[..., 0].mean() < 0.01
    spectra = changed(found.spectra, data=np.where(nothing, np.nan, found.spectra.data))

    assert search(rare.signal, known=spectra).regions == ()


@pytest.mark.parametrize(("statistic", "reads"), [("scan", 3), ("rx", 2)])
def test_errors_of_a_model_are_measured_only_where_they_are_used(rare, counted, statistic, reads):
    model = simulated(rare_phase=None).signal.decomposition_ae(3, architecture="pca", show_progressbar=False)
    file = counted(rare.signal.data)
    lazy = rare.signal._deepcopy_with_new_data(file.dask((29, 37, 257))).as_lazy()

    search(lazy, model=model.model, statistic=statistic, threshold=np.inf)

    assert file.reads.mean() == pytest.approx(reads, abs=0.1)


def test_the_scan_line_that_drifted_farthest_is_ordinary():
    signal = fe_l_map((64, 64), n_channels=512, dose=100, random_state=1000).signal

    found = search(signal)

    assert found.regions == ()
    assert (found.p_value.data < 0.001).mean() < 0.003


def test_a_model_of_another_axis_is_refused(rare):
    cropped = simulated().signal.isig[40:]  # the map has channels that the model knows nothing of
    model = cropped.decomposition_ae(3, architecture="pca", show_progressbar=False).model
    narrow = rare.signal.isig[:100]

    with pytest.raises(EnergyAxisMismatchError, match=r"anomaly_map\(model=...\): trained on"):
        search(narrow, model=model)


def test_planted_cosmic_rays_are_spikes_and_no_regions():
    signal = simulated(n_channels=1024, rare_phase=None).signal
    rng = np.random.default_rng(0)
    planted = {
        (int(x), int(y), int(e))
        for x, y, e in zip(rng.integers(0, 37, 8), rng.integers(0, 29, 8), rng.integers(300, 1000, 8), strict=True)
    }
    for x, y, e in planted:
        signal.data[y, x, e] += 40

    found = search(signal)

    axis = signal.axes_manager.signal_axes[0].axis
    listed = {(*spike.position, int(np.abs(axis - spike.energy).argmin())) for spike in found.spikes}
    assert listed == planted
    assert found.regions == ()


@pytest.mark.parametrize(("width", "height"), [(1.7, 200), (3, 200), (5.1, 1000)])
def test_a_sharp_line_in_several_pixels_is_a_region_and_no_spike(width, height):
    channels = np.arange(400)

    def peak(at, width, height):
        return height * np.exp(-0.5 * ((channels - at) / width) ** 2)

    part = 0.5 + 0.45 * np.sin(np.arange(24)[:, None, None] / 4) * np.cos(np.arange(28) / 5)[:, None]
    counts = 200 * (part * peak(150, 40, 1) + (1 - part) * peak(250, 50, 1)) + 20
    line = peak(320, width, height)
    counts[8:11, 12:15] += line
    signal = hs.signals.Signal1D(np.random.default_rng(1).poisson(counts).astype("uint32"))

    found = search(signal)

    (region,) = found.regions
    assert found.spikes == ()
    assert set(region.pixels) == {(x, y) for x in (12, 13, 14) for y in (8, 9, 10)}
    assert region.energy == pytest.approx(320, abs=1)
    assert region.excess == pytest.approx(9 * line.sum(), rel=0.1)


def test_a_wide_cosmic_ray_is_one_spike():
    signal = simulated(n_channels=1024, rare_phase=None).signal
    signal.data = signal.data.astype(np.uint16)
    signal.data[11, 7, 600:605] += np.array([30, 90, 300, 80, 25], np.uint16)

    (spike,) = search(signal).spikes

    assert (spike.position, spike.n_channels) == ((7, 11), 5)
    assert spike.energy == signal.axes_manager.signal_axes[0].axis[602]
    assert spike.value == signal.data[11, 7, 600:605].sum()


@pytest.mark.parametrize("rank", [5, 8])
def test_too_many_components_do_not_hide_the_phase(rare, rank):
    found = search(rare.signal, output_dimension=rank)

    assert len(found.regions) == 1


def test_no_null_maps_are_drawn_where_the_model_is_wrong():
    """Such a model expects less than nothing there; drawn counts deviate from it without an anomaly."""
    phase = RarePhase(24, 1.0)
    strong = fe_cr_ni_map((45, 45), n_channels=256, dose=1000, n_phases=4, rare_phase=phase, random_state=0)

    score = search(strong.signal, output_dimension=8).score.data

    truth = strong.rare_mask.data
    assert score[truth].min() > 20
    assert np.count_nonzero(score[~truth] > score[truth].min()) < 3  # the window reaches beyond the phase


def test_a_threshold_takes_the_place_of_the_false_discovery_rate(found, rare):
    strict = search(rare.signal, threshold=float(found.score.data.max()))

    assert strict.detections.data.sum() == 1
    assert "score of" in repr(strict)


@pytest.mark.parametrize("statistic", ["squared_error", "deviance", "rx"])
def test_the_statistics_of_the_literature_are_plain_maps(rare, statistic):
    found = search(rare.signal, statistic=statistic, threshold=float("inf"))

    assert np.isfinite(found.score.data).all()
    assert np.isnan(found.p_value.data).all()
    assert found.regions == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "rxd"}, "Did you mean 'rx'"),
        ({"statistic": "rx"}, "threshold="),
        ({"fdr": 0}, "between 0 and 1"),
        ({"threshold": "high"}, "must be a number"),
        ({"noise": "pink"}, "noise='pink' is unknown"),
        ({"output_dimension": 0}, "whole number"),
        ({"model": 3}, "needs a trained model"),
        ({"fdr": 0.05, "threshold": 5}, "either of them limits the regions"),
        ({"drift": "no"}, "must be True or False"),
    ],
)
def test_impossible_options_are_refused(rare, options, message):
    with pytest.raises(OptionError, match=message):
        search(rare.signal, **options)


def test_a_single_spectrum_is_refused(rare):
    with pytest.raises(NavigationRequiredError):
        search(rare.signal.inav[0, 0])


@pytest.mark.parametrize("scan", [(211,), (7, 9, 11)])
def test_line_scans_and_stacks_work(make_map, scan):
    rng = np.random.default_rng(0)
    data = rng.poisson(20, (*scan, 61)).astype(np.uint16)
    data[tuple(n // 2 for n in scan)][28:34] += 60

    found = search(make_map(data=data), noise="poisson")

    assert len(found.regions) == 1
    assert tuple(n // 2 for n in scan[::-1]) in found.regions[0].pixels
    assert found.regions[0].n_pixels <= 3
    assert found.score.axes_manager.navigation_shape == scan[::-1]


def test_an_eels_map_has_edges_as_candidates():
    signal = fe_l_map((20, 24), n_channels=128, dose=300, drift=False).signal
    data = signal.data.astype(np.uint16)
    data[10:13, 9:12, 45:60] += 200
    signal = signal._deepcopy_with_new_data(data)

    found = search(signal)

    assert found.regions
    assert "Fe" in [candidate.element for candidate in found.regions[0].candidates]


def test_the_table_and_the_figure_show_the_regions(found):
    assert "Nb La" in repr(found)
    assert "Nb La" in found._repr_html_()
    assert found.regions[0].to_dict()["candidates"][0]["element"] == "Nb"
    assert len(found.plot().axes) == 2
    figure = plt.figure().subfigures(1, 2)[1]
    assert found.plot(figure) is figure
    assert len(figure.axes) == 2


def test_the_result_can_be_saved(found, tmp_path):
    found.score.save(tmp_path / "score.hspy")

    again = hs.load(tmp_path / "score.hspy")

    np.testing.assert_array_equal(again.data, found.score.data)
    assert specml.provenance(again)["statistic"] == "scan"


@pytest.fixture(scope="module")
def drifting():
    return fe_l_map((40, 48), n_channels=256, dose=200, rare_phase=ShiftedEdge(24, 1.2), random_state=1)


@pytest.fixture(scope="module")
def shifted(drifting):
    return search(drifting.signal)


def touches(region, planted):
    return any(planted[y, x] for x, y in region.pixels)


def test_a_shifted_edge_is_found_where_scan_lines_drift(drifting, shifted):
    (region,) = shifted.regions
    assert touches(region, drifting.rare_mask.data)
    drift = np.median(drifting.truth["shift"].data, axis=1)  # of a line
    found = np.array(shifted.report["drift"])
    assert (found - drift - np.median(found - drift)).std() < 0.1  # eV; a channel has 0.2 eV
    raw = search(drifting.signal, drift=False)
    assert raw.report["drift"] is None
    assert not any(touches(region, drifting.rare_mask.data) for region in raw.regions)


def test_a_single_shifted_pixel_is_found():
    """No window shows it: it is a little in many channels and of both signs.

    It is the strongest pixel of 12 in 12 maps at 30 counts per channel, and of 6 to 8 in 12 at 20.
    """
    simulated = fe_l_map((64, 64), dose=30, rare_phase=ShiftedEdge(1, 2.0), random_state=0)

    score = search(simulated.signal).score.data

    assert score[simulated.rare_mask.data][0] == score.max()


def test_energies_are_those_of_the_typical_line(drifting, shifted):
    whole = ~np.isnan(shifted.spectra.data[0])
    assert not whole.all()  # some line lacks channels at an end
    assert whole[20:-20].all()
    edge = drifting.signal.axes_manager.signal_axes[0]
    by = np.rint(np.array(shifted.report["drift"]) / edge.scale).astype(int)
    by_hand = [np.roll(drifting.signal.data[y, x].astype(float), -by[y]) for x, y in shifted.regions[0].pixels]
    np.testing.assert_allclose(shifted.spectra.data[0][whole], np.mean(by_hand, axis=0)[whole], rtol=1e-6)
    steepest = shifted.spectra.isig[20:-20].data[0, :80].argmax() + 20
    normal = drifting.signal.data[~drifting.rare_mask.data].mean(axis=0)[20:100].argmax() + 20
    assert (steepest - normal) * edge.scale == pytest.approx(1.2, abs=0.6)
    assert 700 < shifted.regions[0].energy < 735


def test_a_region_says_how_far_its_edge_is_shifted(shifted, found):
    (region,) = shifted.regions
    assert region.shift == pytest.approx(1.2, abs=0.25)
    assert 0 < region.shift_error < 0.25
    assert f"shifted by {region.shift:+.2g} eV" in repr(shifted)
    assert np.isnan(found.regions[0].shift)
    assert "shifted" not in repr(found)


def test_a_known_shifted_edge_is_ordinary(drifting, shifted):
    again = search(drifting.signal, known=shifted.spectra)

    assert again.regions == ()


def test_a_drift_is_taken_back_whatever_the_chunks(drifting, shifted, counted, read_again):
    file = counted(drifting.signal.data)
    lazy = drifting.signal._deepcopy_with_new_data(file.dask((8, 48, 256))).as_lazy()

    again = search(lazy)

    np.testing.assert_allclose(again.score.data, shifted.score.data, rtol=1e-4, atol=1e-4)
    assert again.report["drift"] == shifted.report["drift"]
    assert file.reads.mean() <= 4 + read_again(again, 8)


def test_spikes_are_listed_where_they_were_recorded(drifting):
    signal = drifting.signal.deepcopy()
    line = int(np.argmax(np.abs(np.median(drifting.truth["shift"].data, axis=1))))
    signal.data = signal.data.astype(np.uint32)
    signal.data[line, 30, 200] += 5000

    (spike,) = search(signal).spikes

    assert spike.position == (30, line)
    assert spike.energy == signal.axes_manager.signal_axes[0].axis[200]
    assert spike.value == signal.data[line, 30, 200]


def test_spikes_are_listed_in_channels_that_other_lines_lack(drifting, shifted):
    axis = drifting.signal.axes_manager.signal_axes[0]
    by = np.rint(np.array(shifted.report["drift"]) / axis.scale).astype(int)
    line = int(by.argmin())  # moved to higher channels: its last ones are beyond those of all others
    assert by[line] < 0 < by.max()
    channel = axis.size - by.max() + by[line]
    signal = drifting.signal.deepcopy()
    signal.data = signal.data.astype(np.uint32)
    signal.data[line, 30, channel] += 5000

    (spike,) = search(signal).spikes

    assert (spike.position, spike.energy) == ((30, line), axis.axis[channel])
    assert spike.value == signal.data[line, 30, channel]
    assert 0 < spike.expected < 2 * signal.data[line, :, channel].mean()


def test_scan_lines_of_x_ray_maps_are_not_moved(found):
    assert found.report["drift"] is None


def test_regions_that_hold_much_of_a_map_are_said_to_be_no_rare_things(caplog: pytest.LogCaptureFixture) -> None:
    signal = fe_cr_ni_map((9, 11), n_channels=64, dose=300).signal
    signal.data[3:5, 4:6, 50:53] += 30
    found = signal.anomaly_map(show_progressbar=False)
    share = 100 * found.detections.data.mean()
    assert share > 3
    assert f"They hold {share:.0f} % of the pixels" in caplog.text


def test_differences_of_what_is_not_counted_have_digits_whatever_the_unit() -> None:
    rng = np.random.default_rng(3)
    data = 0.02 + 0.01 * np.sin(np.arange(64) / 9) + rng.normal(0, 1e-4, (9, 11, 64))
    data[3:5, 4:6, 30:36] += 2e-3
    found = hs.signals.Signal1D(data).anomaly_map(show_progressbar=False)
    head, row = repr(found).splitlines()[1:3]
    assert "difference" in head
    assert f"+{found.regions[0].excess:.3g}" in row
