"""Tools without any toolkit: what they compute is what the methods return, and the signal stays as it is."""

from __future__ import annotations

import csv
import threading
import time

import numpy as np
import pytest
from matplotlib.backend_bases import MouseEvent
from matplotlib.path import Path

import hyperspy_specml as specml
from hyperspy_specml.exceptions import BaselineBetterWarning, OptionError
from hyperspy_specml.gui import AnomalyMap, DecompositionAE, DenoiseDAE, LatentExplorer, PhaseMap, inside
from hyperspy_specml.gui._warnings import collected

QUICK = specml.TrainConfig(max_steps=60, evaluate_every=10)
HOW = {"config": QUICK, "noise": "poisson"}


def done(tool):
    assert tool.wait(300)
    return tool


def drag(tool, axes, corners):
    """Press, move and release the mouse along corners in data coordinates."""
    canvas = tool.figure.canvas
    canvas.draw()
    places = axes.transData.transform(corners)
    kinds = ["button_press_event", *["motion_notify_event"] * (len(places) - 2), "button_release_event"]
    for kind, (x, y) in zip(kinds, places, strict=True):
        held = [1] if kind == "motion_notify_event" else None
        canvas.callbacks.process(kind, MouseEvent(kind, canvas, x, y, 1, buttons=held))


def test_a_decomposition_is_that_of_the_method_and_only_a_button_writes_to_the_signal(counts, unchanged):
    tool = DecompositionAE(unchanged(counts), 2, **HOW)
    tool.form.n_hidden = 16

    tool.run()

    assert done(tool).message == ""
    expected = counts.decomposition_ae(2, options=specml.DenseOptions(n_hidden=16), show_progressbar=False, **HOW)
    np.testing.assert_array_equal(tool.result.scores.data, expected.scores.data)
    assert tool.fraction == 1
    assert tool.last_component == 1
    assert expected.report.verdict() in tool.summary


def test_create_writes_the_learning_results(counts):
    tool = DecompositionAE(counts, 2, architecture="pca", noise="poisson")
    tool.run()
    done(tool).do("create")

    assert counts.learning_results.decomposition_algorithm == "hyperspy_specml pca"
    assert tool.message.startswith("Written to the learning results")


def test_options_are_those_of_the_architecture_and_impossible_ones_become_a_message(counts):
    tool = DecompositionAE(counts, 2, **HOW)
    assert tool.form.names == ["n_hidden", "n_layers", "centre", "augment"]
    tool.architecture = "pca"
    assert tool.form.names == ["centre"]
    tool.architecture = "dense"
    tool.form.n_hidden = 0

    tool.run()

    assert done(tool).result is None
    assert tool.stage == "Failed"
    assert "n_hidden=0" in tool.message
    assert not tool.running


def test_the_held_out_curve_is_there_beside_that_of_pca_before_the_end(counts, slow):
    tool, seen = DecompositionAE(counts, 2, **HOW), []
    tool.observe(lambda event: seen.append({k: list(v) for k, v in tool.progress.curves.items()}), "fraction")

    tool.run()
    report = done(tool).result.report

    assert any("pca (2)" in curves and len(curves.get("Train dense", ())) > 1 for curves in seen[:-1])
    assert tool.progress.curves["Train dense"] == list(zip(report.steps, report.step_scores, strict=True))


def test_a_cancel_is_answered_within_a_second_and_keeps_the_best_so_far(counts, slow):
    tool, started = DecompositionAE(counts, 2, config=specml.TrainConfig(max_steps=100_000)), threading.Event()
    # The curve of the training has a point as soon as there is a best so far.
    tool.observe(lambda event: started.set() if tool.progress.curves.get("Train dense") else None, "fraction")
    tool.run()
    assert started.wait(300)

    start = time.process_time()  # whatever else the machine does
    tool.cancel()
    assert tool.stage.startswith("Cancelling")

    assert done(tool).result.report.interrupted
    assert time.process_time() - start < 1


def test_a_cancel_before_there_is_anything_says_so(counts):
    tool = DecompositionAE(counts, 2, **HOW)
    tool.run()
    tool.cancel()

    assert done(tool).result is None or tool.result.report.interrupted
    assert tool.stage in ("Cancelled", "Done")


def test_a_cancel_while_the_snapshot_is_made_ends_the_computation_that_begins(counts, monkeypatch):
    tool, copy = DecompositionAE(counts, 2, **HOW), type(counts)._deepcopy_with_new_data

    def slow_copy(signal, data):
        tool.cancel()
        return copy(signal, data)

    for _ in range(2):  # the second time there is the progress of the first run, which has ended
        with monkeypatch.context() as patch:
            patch.setattr(type(counts), "_deepcopy_with_new_data", slow_copy)
            tool.run()
        assert done(tool).stage == "Cancelled"
        assert tool.result is None


def test_a_cancel_at_the_end_leaves_the_stage_as_it_is(counts):
    tool = DecompositionAE(counts, 2, architecture="pca", noise="poisson")
    tool.run()
    done(tool).cancel()

    assert tool.stage == "Done"


def test_a_second_run_waits_for_the_first(counts, slow):
    tool = DecompositionAE(counts, 2, **HOW)
    tool.run()
    first = tool._thread
    tool.run()

    assert tool._thread is first
    assert not tool.ready(next(action for action in tool.actions if action.name == "run"))
    done(tool)


def test_the_snapshot_keeps_axes_that_the_user_changes_meanwhile(counts, slow):
    tool = DecompositionAE(counts, 2, **HOW)
    tool.run()
    counts.axes_manager[0].scale = 77

    assert done(tool).result.scores.axes_manager.signal_axes[0].scale != 77


def test_the_pointer_follows_the_navigator_and_moves_it(counts):
    tool = DecompositionAE(counts, 2, architecture="pca", noise="poisson")
    tool.run()
    done(tool)
    before = tool.drawn

    counts.axes_manager.indices = (3, 5)

    assert tool.drawn > before
    assert tool._pixel.get_ylabel().endswith("of pixel 3, 5")
    np.testing.assert_array_equal(tool._pixel.lines[0].get_ydata(), counts.inav[3, 5].data)
    np.testing.assert_allclose(
        tool._pixel.lines[1].get_ydata(), tool.result.reconstruction.inav[3, 5].data, rtol=1e-5, atol=1e-6
    )
    x, y = (axis.axis[i] for axis, i in zip(counts.axes_manager.navigation_axes, (6, 2), strict=True))
    drag(tool, tool._maps[0], [(x, y), (x, y)])
    assert counts.axes_manager.indices == (6, 2)
    tool.close()
    counts.axes_manager.indices = (0, 0)
    assert tool._pixel.get_ylabel().endswith("of pixel 6, 2")


def test_protect_is_toggled_without_a_fit(counts, monkeypatch):
    tool = DenoiseDAE(counts, context="spatial", noise="poisson", config=QUICK)
    tool.run()
    plain = done(tool).result
    assert "removed signal" in tool.message  # the pixel with a line of its own
    from hyperspy_specml.workflows import _denoising

    monkeypatch.setattr(_denoising, "denoise", None)  # fitting would fail

    tool.protect = True

    assert done(tool).stage == "Done", tool.message
    assert specml.denoise_report(tool.result).restored
    assert tool.result is not plain
    tool.protect = False
    assert tool.result is plain
    tool.do("create")
    np.testing.assert_array_equal(tool.created[0].data, plain.data)


def test_candidates_are_shown_as_they_are_scored(counts):
    tool = DenoiseDAE(counts, context="spatial", noise="poisson", config=QUICK)
    tool.run()
    report = specml.denoise_report(done(tool).result)

    scored = {name: points[0][1] for name, points in tool.progress.curves.items() if name.startswith("candidate: ")}
    assert scored == {f"candidate: {one.name}": one.validation_score for one in report.candidates}


def test_another_false_discovery_rate_labels_anew_and_scans_nothing(counts, monkeypatch):
    tool = AnomalyMap(counts, noise="poisson")
    tool.run()
    score = done(tool).result.score.data
    expected = counts.anomaly_map(fdr=0.4, noise="poisson", show_progressbar=False)
    from hyperspy_specml.anomaly import _run

    monkeypatch.setattr(_run, "scan_map", None)  # scanning would fail

    tool.fdr = 0.4

    assert done(tool).stage == "Done", tool.message
    np.testing.assert_array_equal(tool.result.score.data, score)
    np.testing.assert_array_equal(tool.result.detections.data, expected.detections.data)
    assert repr(tool.result.regions) == repr(expected.regions)  # as text: the evidence of edges is NaN
    assert "0.4" in tool.summary


def test_a_region_of_the_table_moves_the_navigator_and_becomes_ordinary_and_is_exported(counts, tmp_path):
    tool = AnomalyMap(counts, noise="poisson")
    tool.run()
    assert len(done(tool).rows) == len(tool.result.regions) >= 1
    include = next(action for action in tool.actions if action.name == "include_known")
    assert not tool.ready(include)

    tool.row = 0

    assert tool.ready(include)
    assert counts.axes_manager.indices == (6, 4)
    tool.do("create")
    np.testing.assert_array_equal(tool.created[0].data, tool.result.score.data)
    assert tool.created[1].data.shape == (len(tool.rows), 31)
    figure = tool.result.plot(components=[0])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0"]
    with pytest.raises(OptionError, match="indices from 0"):
        tool.result.plot(components=[99])
    tool.path = str(tmp_path / "regions.csv")
    tool.do("export")
    rows = list(csv.DictReader((tmp_path / "regions.csv").read_text().splitlines()))
    assert [float(row["p"]) for row in rows] == [region.p for region in tool.result.regions]
    tool.do("include_known")
    assert done(tool).stage == "Done", tool.message
    assert tool.known.data.shape == (1, 31)
    assert not any((6, 4) in region.pixels for region in tool.result.regions)


def test_a_statistic_without_error_rates_is_not_relabelled(counts):
    found = counts.anomaly_map(statistic="deviance", threshold=np.inf, show_progressbar=False)

    with pytest.raises(OptionError, match="has no error rates"):
        found.at_fdr(0.1)


@pytest.fixture
def grains(make_map):
    """Two phases of 9 x 5 and 9 x 6 pixels with different lines."""
    peaks = np.exp(-0.5 * ((np.arange(31) - np.array([[9], [22]])) / 2) ** 2) + 0.05
    rates = 30 * np.repeat(peaks, [5, 6], axis=0)[:, None] * np.ones((11, 9, 1))
    return make_map(data=np.random.default_rng(1).poisson(rates).astype(np.uint16))


def test_phases_are_those_of_the_method_and_others_are_shown_without_a_search(grains, unchanged, monkeypatch):
    tool = PhaseMap(unchanged(grains), noise="poisson")
    tool.run()
    found = done(tool).result
    assert tool.stage == "Done", tool.message
    expected = grains.phase_map(noise="poisson", show_progressbar=False)
    np.testing.assert_array_equal(found.labels.data, expected.labels.data)
    assert (tool.number, tool.first_number, tool.last_number) == (2, 1, max(found.alternatives))
    three = grains.phase_map(3, noise="poisson", show_progressbar=False)
    from hyperspy_specml.latent import _run

    monkeypatch.setattr(_run, "choose", None)  # a search would fail

    tool.number = 3

    assert done(tool).stage == "Done", tool.message
    np.testing.assert_array_equal(tool.result.labels.data, three.labels.data)
    np.testing.assert_array_equal(tool.result.spectra.data, three.spectra.data)
    tool.number = 2
    assert tool.result is found
    with pytest.raises(OptionError, match=r"1, 2, 3.* were fitted"):
        found.at_number(30)


def test_a_phase_is_selected_looked_at_renamed_and_created(grains):
    tool = PhaseMap(grains, result=grains.phase_map(noise="poisson", show_progressbar=False))
    tool.called = "carbide"
    assert "Select a phase" in tool.message

    tool.row = 1
    assert tool.called == "phase 1"
    tool.called = "oxide"

    assert tool.result.names == ("phase 0", "oxide")
    assert "oxide" in tool.rows[1]
    assert tool.row == 1
    for tool.shown in ("share of the second phase", "probability of the selected phase", "phases"):
        tool.figure.canvas.draw()
    grains.axes_manager.indices = (2, 1)
    counts, of_phase = tool._pixel.lines[:2]
    assert of_phase.get_label().split(",")[0] == tool.result.names[tool.result.labels.data[1, 2]]
    np.testing.assert_allclose(of_phase.get_ydata().sum(), counts.get_ydata().sum())
    tool.do("create")
    labels, spectra = tool.created
    np.testing.assert_array_equal(labels.data, tool.result.labels.data)
    assert spectra.data.shape == (2, 31)


@pytest.fixture
def explorer(counts):
    dec = counts.decomposition_ae(3, architecture="pca", noise="poisson", show_progressbar=False)
    return LatentExplorer(counts, dec.scores)


def test_a_lasso_on_the_map_selects_the_pixels_inside_and_sums_their_spectra(explorer, counts):
    x, y = (axis.axis for axis in counts.axes_manager.navigation_axes)
    border = np.array([(x[1], y[2]), (x[4], y[2]), (x[4], y[6]), (x[1], y[6])]) - [x[1] - x[0], y[1] - y[0]]

    drag(explorer, explorer._maps[0], [*border, border[0]])

    expected = np.zeros((11, 9), bool)
    expected[2:6, 1:4] = True
    expected[1, :] = expected[:, 0] = False
    # the corners lie on pixel centres: whatever is decided there, the inside is selected and nothing beyond
    chosen = explorer.selected.reshape(11, 9)
    assert chosen[2:5, 1:3].all()
    assert chosen[:1].sum() == chosen[6:].sum() == chosen[:, 4:].sum() == 0
    done(explorer)
    np.testing.assert_allclose(explorer.result[0], counts.data[chosen].sum(axis=0))
    np.testing.assert_allclose(explorer.result[1], counts.data[~chosen].sum(axis=0))


def test_a_lasso_on_the_density_selects_by_scores(explorer):
    explorer.x, explorer.y = 1, 2
    points = explorer.maps[[1, 2]].reshape(2, -1).T
    middle, size = np.median(points, axis=0), points.std(axis=0)
    corners = middle + size * [(-1, -1), (1, -1), (1, 1), (-1, 1)]

    drag(explorer, explorer._density, [*corners, corners[0]])

    expected = (np.abs(points - middle) < size).all(axis=1)
    assert expected.any()
    np.testing.assert_array_equal(explorer.selected, expected)
    done(explorer)


def test_a_selection_is_kept_as_phase_label_known_spectrum_and_mask(explorer, counts):
    selected = np.zeros((11, 9), bool)
    selected[2:7, 3:5] = True
    explorer.select(selected.reshape(-1))
    done(explorer)

    for action in ("save_phase", "save_known", "save_mask"):
        explorer.do(action)

    np.testing.assert_allclose(explorer.phases.data, counts.data[selected].sum(axis=0)[None])
    np.testing.assert_array_equal(explorer.labels.data, np.where(selected, 0, -1))
    np.testing.assert_array_equal(explorer.mask.data, selected)
    assert explorer.phases.axes_manager.signal_axes[0].units == "eV"
    masked = counts.decomposition_ae(
        2, architecture="pca", noise="poisson", navigation_mask=explorer.mask, show_progressbar=False
    )
    np.testing.assert_array_equal(np.isnan(masked.scores.data[0]), selected)
    counts.anomaly_map(known=explorer.known, noise="poisson", show_progressbar=False)
    explorer.select(~selected.reshape(-1))
    done(explorer).do("save_phase")
    with pytest.warns(BaselineBetterWarning):  # every pixel is a mixture
        phases = counts.phase_map(labels=explorer.labels, noise="poisson", show_progressbar=False)
    assert phases.names == ("phase 0", "phase 1")
    np.testing.assert_array_equal((phases.labels.data == 0)[selected], True)


def test_the_last_of_quick_selections_is_summed(explorer, counts):
    masks = np.eye(99, dtype=bool)
    for mask in masks[:20]:
        explorer.select(mask)
    deadline = time.monotonic() + 300
    while explorer.running or explorer._summed is not explorer.selected:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    np.testing.assert_allclose(explorer.result[0], counts.data.reshape(99, -1)[19])


@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_maps_of_one_to_three_scan_axes_and_one_component_are_explored(make_map, n_navigation):
    signal = make_map(n_navigation)
    dec = signal.decomposition_ae(1, architecture="pca", noise="poisson", show_progressbar=False)
    tool = LatentExplorer(signal, dec.scores)
    tool.select(np.arange(tool.selected.size) % 2 == 0)
    done(tool)
    tool.figure.canvas.draw()

    np.testing.assert_allclose(tool.result[0], signal.data.reshape(-1, 11)[::2].sum(axis=0))


@pytest.mark.parametrize("n", [3, 11, 1000])
def test_points_in_a_polygon_are_those_of_matplotlib_also_where_it_crosses_itself(n):
    rng = np.random.default_rng(n)
    polygon, points = rng.normal(size=(n, 2)), rng.normal(size=(2000, 2))
    if n == 1000:  # a wavy ring: matplotlib fills by winding number where edges cross
        angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
        polygon = (1 + 0.2 * np.sin(7 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        np.testing.assert_array_equal(inside(polygon, points), Path(polygon).contains_points(points))
        return
    crossings = np.zeros(len(points), int)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        between = (y0 <= points[:, 1]) != (y1 <= points[:, 1])
        crossings += between & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    np.testing.assert_array_equal(inside(polygon, points), crossings % 2 == 1)
    assert not inside(polygon, np.array([[np.nan, 0], [0, np.nan]])).any()


def test_warnings_of_one_thread_are_collected_and_those_of_others_go_on():
    import warnings

    from hyperspy_specml.exceptions import BaselineBetterWarning

    ready, go, texts = threading.Event(), threading.Event(), []

    def other():
        with collected() as found:
            ready.set()
            assert go.wait(300)
            warnings.warn("theirs", BaselineBetterWarning, stacklevel=1)
            texts.extend(found)

    thread = threading.Thread(target=other)
    thread.start()
    assert ready.wait(300)
    with collected() as mine:
        warnings.warn("mine", BaselineBetterWarning, stacklevel=1)
    go.set()
    thread.join(300)

    assert (mine, texts) == (["mine"], ["theirs"])
    with pytest.raises(BaselineBetterWarning, match="later"):  # warnings are errors again
        warnings.warn("later", BaselineBetterWarning, stacklevel=1)
