"""`specml.pretrain`: native latents and maps, labels in every form, files, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import (
    Cancelled,
    DataTypeError,
    MaskError,
    OptionError,
    SpecMLError,
    SpectraRequiredError,
)
from hyperspy_specml.pretraining import PatchShape
from hyperspy_specml.workflows._corpus import parts, read

if TYPE_CHECKING:
    from pathlib import Path

    from hyperspy.signals import Signal1D

SMALL = PatchShape(patch=16, width=32, depth=1, heads=2)
CONFIG = specml.TrainConfig(max_steps=20, batch_size=32, evaluate_every=10)


@pytest.fixture(scope="module")
def simulated() -> Any:
    return specml.datasets.fe_cr_ni_map((12, 10), n_channels=256, dose=300)


@pytest.fixture(scope="module")
def signal(simulated: Any) -> Signal1D:
    return simulated.signal


def pretrained(signals: Any, objective: str = "simulated", **options: Any) -> specml.Encoder:
    return specml.pretrain(signals, objective, shape=SMALL, config=CONFIG, show_progressbar=False, **options)


@pytest.fixture(scope="module")
def encoder(signal: Signal1D) -> specml.Encoder:
    return pretrained([signal])


@pytest.fixture(scope="module")
def iron(simulated: Any) -> np.ndarray:
    """(lines, columns), the share of iron."""
    return simulated.truth["abundances"].data[0]


@pytest.mark.parametrize("objective", ["simulated", "masked"])
def test_the_held_out_score_falls(signal: Signal1D, objective: str) -> None:
    report = pretrained([signal], objective).report
    assert report["objective"] == objective
    assert report["scores"][-1] < report["scores"][0]
    assert pretrained([signal], objective).report["scores"] == report["scores"]


def test_latents_are_native_lazy_or_not(signal: Signal1D, encoder: specml.Encoder) -> None:
    latents = encoder.embed(signal)
    assert latents.axes_manager.signal_shape == (10, 12)
    assert latents.axes_manager.navigation_shape == (32,)
    assert latents.axes_manager.signal_axes[0].scale == signal.axes_manager[0].scale
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((5, 3, 100))
    assert encoder.embed(lazy).data == pytest.approx(latents.data, abs=1e-5)
    one = encoder.embed(signal.inav[3, 4])
    assert one.data == pytest.approx(latents.data[:, 4, 3], abs=1e-5)


def test_spectra_with_nan_have_none(signal: Signal1D, encoder: specml.Encoder) -> None:
    spoilt = signal.deepcopy()
    spoilt.change_dtype("float32")
    spoilt.data[2, 3, 5] = np.nan
    latents = encoder.embed(spoilt).data
    assert np.isnan(latents[:, 2, 3]).all()
    assert np.isnan(latents).sum() == 32


def test_files_and_kinds_are_pooled(signal: Signal1D, tmp_path: Path) -> None:
    signal.save(tmp_path / "map.hspy")
    raman = hs.signals.Signal1D(np.random.default_rng(0).random((30, 100)))
    raman.axes_manager[-1].units, raman.axes_manager[-1].offset = "1/cm", 200
    pooled = pretrained([tmp_path / "map.hspy", raman, signal], "masked")
    assert sorted(grid.units for grid in pooled.encoder.grids) == ["1/cm", "eV"]
    assert pooled.embed(raman).data.shape == (32, 30)


def test_the_unit_of_the_axis_does_not_matter(signal: Signal1D, encoder: specml.Encoder) -> None:
    other = signal.deepcopy()
    axis = other.axes_manager[-1]
    axis.units, axis.scale, axis.offset = "eV", 1000 * axis.scale, 1000 * axis.offset
    assert encoder.embed(other).data == pytest.approx(encoder.embed(signal).data, abs=1e-4)


def test_a_library_is_simulated(signal: Signal1D, simulated: Any) -> None:
    found = pretrained([signal], library=simulated.endmembers)
    assert found.encoder.readout is not None
    assert found.encoder.readout.composition.tolist() == [True] * (simulated.endmembers.data.shape[0] - 1) + [False]
    assert found.report["scores"][-1] < found.report["scores"][0]


@pytest.mark.parametrize("method", ["raw", "pca", "aligned", "linear", "parameters", "lora", "full"])
def test_every_method_predicts_values_and_classes(
    signal: Signal1D,
    encoder: specml.Encoder,
    iron: np.ndarray,
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperspy_specml.pretraining._predict._STEPS", 40)
    labels = np.where(np.arange(120).reshape(12, 10) % 2, iron, np.nan)
    if method == "parameters":  # they are learnt in hundreds of steps, not in 20
        config = specml.TrainConfig(max_steps=300, batch_size=64, evaluate_every=100)
        encoder = specml.pretrain([signal], shape=SMALL, config=config, show_progressbar=False)
    predictor = encoder.fine_tune(signal, labels, method)
    found = predictor.regress(signal)
    assert found.value.axes_manager.navigation_shape == (10, 12)
    assert np.corrcoef(found.value.data.ravel(), iron.ravel())[0, 1] > 0.5
    assert 0 < found.error.data[0, 0] < 1
    again = specml.Predictor.load(predictor.save(tmp_path / "iron"))
    assert again.regress(signal).value.data == pytest.approx(found.value.data, abs=1e-5)
    classes = np.where(np.isnan(labels), "", np.where(iron > np.median(iron), "much", "little"))
    sorted_by = encoder.fine_tune(signal, classes, method).classify(signal)
    assert sorted_by.names == ("little", "much")
    right = np.array(sorted_by.names)[sorted_by.labels.data] == np.where(iron > np.median(iron), "much", "little")
    assert right.mean() > 0.6
    assert sorted_by.probability.data.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_auto_shows_what_it_compared(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.pretraining._predict._STEPS", 10)
    labels = np.where(np.arange(120).reshape(12, 10) % 3 == 0, (iron > np.median(iron)).astype(int), -1)
    predictor = encoder.fine_tune(signal, labels)
    every = ["raw", "pca", "aligned", "likelihood", "parameters", "linear", "lora"]
    assert [one.method for one in predictor.table] == every
    chosen = sorted((one for one in predictor.table if one.share), key=lambda one: -one.share)
    assert sum(one.share for one in chosen) == pytest.approx(1)
    assert predictor.method == " + ".join(one.method for one in chosen)
    assert f"{chosen[0].share:.2f}" in repr(predictor)
    assert "<table>" in predictor._repr_html_()
    alone = encoder.fine_tune(signal, labels, "raw")
    assert alone._repr_html_() == "&lt;Predictor of 2 classes: raw&gt;"  # a notebook takes <...> for a tag


def test_a_blend_is_kept_in_a_file(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hyperspy_specml.pretraining._predict._STEPS", 2)
    monkeypatch.setattr("hyperspy_specml.pretraining._contest.blend_shares", lambda *_: np.full(6, 1 / 6))
    monkeypatch.setattr("hyperspy_specml.pretraining._contest._BEHIND", np.inf)
    labels = np.where(np.arange(120).reshape(12, 10) % 3, np.nan, iron)
    predictor = encoder.fine_tune(signal, labels)
    assert predictor.method == "raw + pca + aligned + parameters + linear + lora"
    again = specml.Predictor.load(predictor.save(tmp_path / "iron"))
    assert again.table == predictor.table
    assert (again.regress(signal).value.data == predictor.regress(signal).value.data).all()
    # The same methods alone, and their mean.
    alone = [
        encoder.fine_tune(signal, labels, name).regress(signal).value.data for name in predictor.method.split(" + ")
    ]
    assert again.regress(signal).value.data == pytest.approx(np.mean(alone, axis=0), abs=1e-5)
    assert 0 < again.regress(signal).error.data[0, 0] < 1


def test_classes_by_likelihood_are_kept_in_a_file(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, tmp_path: Path
) -> None:
    much = iron > np.median(iron)
    labels = np.where(np.arange(120).reshape(12, 10) % 3 == 0, much.astype(int), -1)
    kept = specml.Encoder.load(encoder.save(tmp_path / "encoder"))  # with its pure spectra
    predictor = kept.fine_tune(signal, labels, "likelihood")
    found = predictor.classify(signal)
    assert (found.labels.data == much).mean() > 0.8
    again = specml.Predictor.load(predictor.save(tmp_path / "iron")).classify(signal)
    assert (again.probability.data == found.probability.data).all()
    assert (predictor.classify(signal.as_lazy()).probability.data == found.probability.data).all()


def test_classes_are_told_with_neighbours_where_their_order_says_something(encoder: specml.Encoder) -> None:
    # Grains at so few counts that single spectra are often wrong, and the same spectra in random order.
    simulated = specml.datasets.fe_cr_ni_map((24, 25), texture="grains", n_channels=256, dose=15)
    few, rng = simulated.signal, np.random.default_rng(0)
    truth = simulated.truth["abundances"].data.argmax(axis=0)
    labels = np.where(rng.random(truth.shape) < 0.1, truth, -1)
    predictor = encoder.fine_tune(few, labels, "pca")
    alone, together = predictor.classify(few, context="spectral"), predictor.classify(few)
    assert alone.neighbour == 0
    assert together.neighbour > 0
    right = [(np.array(one.names).astype(int)[one.labels.data] == truth).mean() for one in (alone, together)]
    assert right[1] > right[0] + 0.03
    assert together.probability.data.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert (predictor.classify(few.as_lazy()).probability.data == together.probability.data).all()
    shuffled = few.deepcopy()
    shuffled.data = rng.permutation(few.data.reshape(600, -1)).reshape(few.data.shape)
    assert predictor.classify(shuffled).neighbour == 0
    by_class = few.inav[:, 0].deepcopy()  # a list that is sorted: its order is no map
    by_class.data = few.data.reshape(600, -1)[np.argsort(truth.ravel())]
    by_class.get_dimensions_from_data()
    assert predictor.classify(by_class).neighbour == 0
    one_line = few.inav[:, :1].deepcopy()
    one_line.data = one_line.data[:, np.argsort(truth[0])]
    assert predictor.classify(one_line).neighbour == 0
    with pytest.raises(SpecMLError, match="spectral"):
        predictor.classify(few, context="spatial")


def test_only_classes_of_simulated_spectra_are_told_by_likelihood(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray
) -> None:
    with pytest.raises(SpecMLError, match="labels are values"):
        encoder.fine_tune(signal, iron, "likelihood")
    with pytest.raises(SpecMLError, match="objective='simulated'"):
        pretrained([signal], "masked").fine_tune(signal, (iron > np.median(iron)).astype(int), "likelihood")


def test_parameters_are_only_read_by_encoders_that_learnt_them(signal: Signal1D, iron: np.ndarray) -> None:
    with pytest.raises(SpecMLError, match="objective='simulated'"):
        pretrained([signal], "masked").fine_tune(signal, iron, "parameters")


def test_areas_by_name_are_labels(signal: Signal1D, encoder: specml.Encoder) -> None:
    mask = np.zeros((12, 10), bool)
    mask[8:] = True
    scale = [axis.scale for axis in signal.axes_manager.navigation_axes]
    roi = hs.roi.RectangularROI(0, 0, 4 * scale[0], 3 * scale[1])
    found = encoder.fine_tune(signal, {"one": roi, "other": mask}, "pca").classify(signal)
    assert found.names == ("one", "other")


def test_an_encoder_is_kept_in_a_file(signal: Signal1D, encoder: specml.Encoder, tmp_path: Path) -> None:
    path = encoder.save(tmp_path / "eds")
    with pytest.raises(SpecMLError, match=r"holds no trained model. Read it by specml.Encoder.load\("):
        specml.load_model(path)
    again = specml.Encoder.load(path)
    assert (again.embed(signal).data == encoder.embed(signal).data).all()
    assert again.encoder.readout is not None
    assert encoder.encoder.readout is not None
    assert (again.encoder.readout.weights == encoder.encoder.readout.weights).all()
    assert (again.encoder.readout.composition == encoder.encoder.readout.composition).all()
    assert encoder.encoder.readout.composition.sum() == len(encoder.encoder.readout.composition) - 1  # the background
    assert again.report == encoder.report
    with pytest.raises(SpecMLError, match="overwrite"):
        encoder.save(path)
    with pytest.raises(SpecMLError, match="no predictor"):
        specml.Predictor.load(path)
    (tmp_path / "bad.specml").write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SpecMLError):
        specml.Encoder.load(tmp_path / "bad.specml")


def test_training_goes_on_from_an_encoder(signal: Signal1D, encoder: specml.Encoder) -> None:
    more = pretrained([signal], start=encoder)
    assert more.report["scores"][0] != encoder.report["scores"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no signals"),
        (([hs.signals.Signal2D(np.zeros((3, 4, 4)))],), "signals of spectra"),
        (([hs.signals.ComplexSignal1D(np.zeros((3, 4), complex))],), "real numbers"),
        (([hs.signals.Signal1D(np.ones((5, 40)))],), "masked"),
        (([hs.signals.Signal1D(np.full((5, 40), np.nan))], "masked"), "finite"),
        (([hs.signals.Signal1D(np.ones((5, 40)))], "guess"), "guess"),
    ],
)
def test_what_cannot_be_learnt_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(SpecMLError, match=message):
        pretrained(*arguments)


def table(signal: Signal1D, lines: np.ndarray, columns: np.ndarray, **labels: np.ndarray) -> np.ndarray:
    """Return a structured array of positions and labels."""
    x, y = (axis.name for axis in signal.axes_manager.navigation_axes)
    values = {x: columns, y: lines} | labels
    found = np.empty(len(lines), [(name, np.asarray(one).dtype) for name, one in values.items()])
    for name, one in values.items():
        found[name] = one
    return found


@pytest.mark.parametrize("kind", ["values", "text", "numbers"])
@pytest.mark.parametrize("in_units", [False, True])
def test_a_table_of_positions_is_labels(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, kind: str, in_units: bool
) -> None:
    lines, columns = np.unravel_index(np.random.default_rng(0).permutation(120)[:40], (12, 10))
    much = iron > np.median(iron)
    of_pixel = {"values": iron, "text": np.where(much, "much", "little"), "numbers": much.astype(int)}[kind]
    none = {"values": np.nan, "text": "", "numbers": -1}[kind]
    every = np.full((12, 10), none, of_pixel.dtype)
    every[lines, columns] = of_pixel[lines, columns]
    positions: tuple[np.ndarray, np.ndarray] = (lines, columns)
    if in_units:
        x, y = signal.axes_manager.navigation_axes
        positions = y.offset + y.scale * lines, x.offset + x.scale * (columns + 0.3)
    given = table(signal, *positions, label=of_pixel[lines, columns])
    found, expected = (encoder.fine_tune(signal, labels, "pca") for labels in (given, every))
    assert found.names == expected.names
    for one, other in zip(found.tuned.members, expected.tuned.members, strict=True):
        assert (one.head.weights == other.head.weights).all()


class Frame:
    """Columns by name, as those of a DataFrame."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.columns = values, list(values.dtype.names or ())

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def items(self) -> Any:
        return ((name, self.values[name]) for name in self.columns)


def test_a_frame_is_a_table(signal: Signal1D, encoder: specml.Encoder) -> None:
    lines, columns = np.unravel_index(np.arange(0, 120, 5), (12, 10))
    given = table(signal, lines, columns, label=np.where(lines % 2, "odd", "even"))
    assert encoder.fine_tune(signal, Frame(given), "pca").names == ("even", "odd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[["label"]], "column for each scan axis"),
        (lambda t: np.repeat(t, 2), None),
        (lambda t: np.concatenate([t, np.array([(*t[0].item()[:2], "other")], t.dtype)]), "two labels"),
        (lambda t: np.concatenate([t, np.array([(*t[0].item()[:2], ""), (99, 99, "")], t.dtype)]), None),
        (lambda t: np.concatenate([t, np.array([(0, 12, "odd")], t.dtype)]), "outside of the scan, 12 pixels"),
        (lambda t: np.concatenate([t, np.array([(-1, 0, "odd")], t.dtype)]), "outside of the scan, 10 pixels"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    signal: Signal1D, encoder: specml.Encoder, change: Any, message: str | None
) -> None:
    lines, columns = np.unravel_index(np.arange(0, 120, 5), (12, 10))
    given = change(table(signal, lines, columns, label=np.where(lines % 2, "odd", "even").astype("U5")))
    if message is None:  # the same label twice is no harm, and rows without one say nothing
        assert encoder.fine_tune(signal, given, "raw").names == ("even", "odd")
        return
    with pytest.raises(SpecMLError, match=message):
        encoder.fine_tune(signal, given, "raw")


@pytest.mark.parametrize("none", ["", None, np.nan])
def test_rows_of_a_table_without_a_label_say_nothing(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, none: Any
) -> None:
    lines, columns = np.unravel_index(np.arange(0, 120, 5), (12, 10))
    texts = np.where(lines % 2, "odd", "even").astype(object)
    values = iron[lines, columns]
    texts[3], values[3] = none, np.nan
    assert encoder.fine_tune(signal, table(signal, lines, columns, label=texts), "raw").names == ("even", "odd")
    every = np.full((12, 10), np.nan)
    every[lines, columns] = values
    found, expected = (
        encoder.fine_tune(signal, one, "raw").tuned.members[0].head.weights
        for one in (table(signal, lines, columns, label=values), every)
    )
    np.testing.assert_array_equal(found, expected)


class Nullable:
    """A column as those of pandas: whole numbers, which numpy reads as floats, and objects where it asks for them."""

    dtype = "Int64"

    def __init__(self, values: list[int | None]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype or float)

    def items(self) -> Any:
        return enumerate(self.values)


def test_labels_are_missing_in_every_form(signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray) -> None:
    much = iron > np.median(iron)
    here = np.arange(120).reshape(12, 10) % 2 == 0
    texts = np.where(much, "much", "little")
    forms = [
        np.where(here, texts, ""),
        np.where(here, texts, None),
        np.where(here, texts.astype(object), np.nan),
        np.where(here, texts.astype(object), "").ravel().tolist(),
        np.where(here, texts.astype(object), np.nan).ravel().tolist(),
        np.where(here, texts, "").astype("S"),
        np.ma.array(np.where(here, texts, "other"), mask=~here),
        np.where(here, much.astype(int), -1),
        hs.signals.BaseSignal(np.where(here, much.astype(int), -1)).T,
        np.ma.array(np.where(here, much, 7), mask=~here),
        np.ma.array(np.where(here, much, 7).astype("u1"), mask=~here),
        np.where(here, much, None),
        Nullable([int(one) if good else None for one, good in zip(much.flat, here.flat, strict=True)]),
    ]
    found = [encoder.fine_tune(signal, one, "raw") for one in forms]
    assert {one.names for one in found[:7]} == {("little", "much")}
    assert [one.names for one in found[7:]] == [("0", "1")] * 4 + [("False", "True"), ("0", "1")]
    for one in found[1:]:  # they learn from the same spectra, of the same classes
        np.testing.assert_array_equal(one.tuned.members[0].head.weights, found[0].tuned.members[0].head.weights)
    values = [
        encoder.fine_tune(signal, labels, "raw").tuned.members[0].head.weights
        for labels in (np.where(here, iron, np.nan), np.ma.array(iron, mask=~here), np.where(here, iron, None))
    ]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


@pytest.fixture
def spoilt(signal: Signal1D) -> Signal1D:
    """Two lines whose spectra are not finite, and two of spectra without counts."""
    found = signal.deepcopy()
    found.change_dtype("float32")
    found.data[:2, :, 3], found.data[2:4] = np.nan, 0
    return found


@pytest.mark.parametrize(
    ("of_line", "method", "message"),
    [
        ({0: "a", 5: "b"}, "raw", "class 'a' .* 10 of its 10 labelled spectra hold NaN or infinity, and 0 no counts"),
        ({2: "a", 5: "b"}, "raw", "class 'a' .* 0 of its 10 labelled spectra hold NaN or infinity, and 10 no counts"),
        ({1: "a", 2: "a", 5: "b", 6: "c"}, "linear", "class 'a' .* 10 of its 20 .* and 10 no counts"),
        ({0: 1.0, 2: 2.0}, "pca", "values .* 10 of its 20 labelled .* and 10 no counts"),
        ({0: 1.0, 5: 2.0}, "pca", "all 10 values are 2, "),
    ],
)
def test_labels_of_spectra_that_say_nothing_are_none(
    spoilt: Signal1D, encoder: specml.Encoder, of_line: dict, method: str, message: str
) -> None:
    labels = np.full((12, 10), None)
    for one, label in of_line.items():
        labels[one] = label
    with pytest.raises(OptionError, match=message):
        encoder.fine_tune(spoilt, labels, method)


def test_one_finite_spectrum_of_a_class_is_too_few_for_a_cross_validation(
    spoilt: Signal1D, encoder: specml.Encoder
) -> None:
    labels = np.full((12, 10), "")
    labels[0], labels[4, 0], labels[5] = "a", "a", "b"
    with pytest.raises(OptionError, match=r"class 'a' .* 2 or more .* 10 of its 11 .* method='linear'"):
        encoder.fine_tune(spoilt, labels)


def test_labels_that_are_left_out_are_logged(
    spoilt: Signal1D, encoder: specml.Encoder, iron: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = encoder.fine_tune(spoilt, iron, "raw")
    assert "40 of 120 labelled spectra hold NaN or no counts" in caplog.text
    good = np.where(np.arange(12)[:, None] < 4, np.nan, iron)
    again = encoder.fine_tune(spoilt, good, "raw")
    np.testing.assert_array_equal(predictor.regress(spoilt).value.data, again.regress(spoilt).value.data)


def test_pixels_without_counts_have_no_class_and_no_value(
    signal: Signal1D, spoilt: Signal1D, encoder: specml.Encoder, iron: np.ndarray
) -> None:
    nothing = np.arange(12) < 4
    classes = encoder.fine_tune(signal, (iron > np.median(iron)).astype(int), "raw")
    for context in ("auto", "spectral"):
        found = classes.classify(spoilt, context=context)
        np.testing.assert_array_equal((found.labels.data == -1).all(axis=1), nothing)
        np.testing.assert_array_equal(np.isnan(found.probability.data).all(axis=(0, 2)), nothing)
        assert np.isfinite(found.probability.data[:, ~nothing]).all()
    values = encoder.fine_tune(signal, iron, "raw").regress(spoilt)
    for one in (values.value, values.error):
        np.testing.assert_array_equal(np.isnan(one.data).all(axis=1), nothing)
        assert np.isfinite(one.data[~nothing]).all()
    assert np.isfinite(encoder.embed(spoilt).data[:, 2:]).all()


def test_pixels_without_counts_have_no_say_in_their_neighbours(encoder: specml.Encoder) -> None:
    simulated = specml.datasets.fe_cr_ni_map((24, 25), texture="grains", n_channels=256, dose=15)
    few, truth = simulated.signal, simulated.truth["abundances"].data.argmax(axis=0)
    predictor = encoder.fine_tune(few, np.where(np.random.default_rng(0).random(truth.shape) < 0.1, truth, -1), "pca")
    without, unknown = few.deepcopy(), few.deepcopy()
    unknown.change_dtype("float32")
    without.data[5:15, 5:15], unknown.data[5:15, 5:15] = 0, np.nan
    found, expected = predictor.classify(without), predictor.classify(unknown)
    assert found.neighbour == expected.neighbour > 0
    np.testing.assert_array_equal(found.probability.data, expected.probability.data)


def test_areas_that_overlap_are_refused(signal: Signal1D, encoder: specml.Encoder) -> None:
    lines = np.arange(12)[:, None] * np.ones(10, int)
    areas = {"one": lines < 3, "two": lines > 8, "three": (lines > 1) & (lines < 5)}
    for method in (lambda: encoder.fine_tune(signal, areas, "raw"), lambda: signal.phase_map(labels=areas)):
        with pytest.raises(MaskError, match="'one' and 'three' have 10 pixels in common"):
            method()
    masked = {name: np.ma.array(area, mask=lines == 2) for name, area in areas.items()}
    assert encoder.fine_tune(signal, masked, "raw").names == ("one", "two", "three")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("map.hspy", OptionError, r"needs a signal of spectra, not str.*hs\.load"),
        (np.ones((3, 256)), OptionError, "not ndarray"),
        (hs.signals.ComplexSignal1D(np.ones((3, 256), complex)), DataTypeError, "real numbers"),
        (hs.signals.Signal2D(np.ones((3, 4, 256))), SpectraRequiredError, "2 signal axes"),
        (hs.signals.ComplexSignal1D(np.ones(256, complex)), DataTypeError, "real numbers"),
    ],
)
def test_only_signals_of_spectra_are_taken(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, given: Any, error: type, message: str
) -> None:
    classes = encoder.fine_tune(signal, (iron > np.median(iron)).astype(int), "raw")
    values = encoder.fine_tune(signal, iron, "raw")
    for name, call in {
        "embed": lambda: encoder.embed(given),
        "novelty": lambda: encoder.novelty(given, signal),
        r"novelty\(ordinary": lambda: encoder.novelty(signal, given),
        "fine_tune": lambda: encoder.fine_tune(given, iron, "raw"),
        "classify": lambda: classes.classify(given),
        "regress": lambda: values.regress(given),
    }.items():
        with pytest.raises(error, match=f"^{name}.*{message}"):
            call()


def test_adapters_are_a_small_file_beside_their_encoder(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hyperspy_specml.pretraining._predict._STEPS", 5)
    base = specml.Encoder.load(encoder.save(tmp_path / "base"))
    predictor = base.fine_tune(signal, iron, "lora", lora=specml.LoraOptions(rank=2, target_modules=("qkv", "up")))
    adapters = predictor.tuned.members[0].adapters
    assert adapters is not None
    assert {name: value.shape for name, value in adapters.items()} == {
        "0.qkv.down": (2, 32), "0.qkv.up": (96, 2), "0.up.down": (2, 32), "0.up.up": (64, 2),
    }  # fmt: skip
    small = predictor.save(tmp_path / "small", with_encoder=False)
    whole = predictor.save(tmp_path / "whole")
    with pytest.raises(SpecMLError, match=r"Read it by specml.Predictor.load\("):  # though it holds an encoder, too
        specml.load_model(whole)
    assert small.stat().st_size < whole.stat().st_size / 3
    expected = predictor.regress(signal).value.data
    again = specml.Predictor.load(small, encoder=specml.Encoder.load(tmp_path / "base"))
    assert (again.regress(signal).value.data == expected).all()
    assert (specml.Predictor.load(whole).regress(signal).value.data == expected).all()
    with pytest.raises(SpecMLError, match="saved without its encoder"):
        specml.Predictor.load(small)
    with pytest.raises(SpecMLError, match="another encoder"):
        specml.Predictor.load(small, encoder=pretrained([signal], random_state=1))


@pytest.mark.parametrize("scored", ["hidden", "all"])
@pytest.mark.parametrize("error", ["squared", "counts"])
@pytest.mark.parametrize("normalisation", ["square root", "total"])
def test_masks_are_as_asked_for(signal: Signal1D, scored: str, error: str, normalisation: str) -> None:
    masking = specml.Masking(hidden=0.5, scored=scored, error=error)
    scores = pretrained([signal], "masked", masking=masking, normalisation=normalisation).report["scores"]
    assert scores[-1] < scores[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: specml.Masking(hidden=1.0), "between 0 and 1"),
        (lambda s: specml.Masking(hidden="a"), "between 0 and 1"),
        (lambda s: specml.Masking(scored="some"), "scored"),
        (lambda s: specml.Masking(error="absolute"), "error"),
        (lambda s: specml.LoraOptions(rank=0), "rank"),
        (lambda s: specml.LoraOptions(rank="x"), "rank"),
        (lambda s: specml.LoraOptions(alpha=0.0), "alpha"),
        (lambda s: specml.LoraOptions(alpha="x"), "alpha"),
        (lambda s: specml.LoraOptions(target_modules="qkv"), "names of layers"),
        (lambda s: specml.LoraOptions(target_modules=2), "names of layers"),
        (lambda s: specml.LoraOptions(target_modules=("query",)), "query"),
        (lambda s: pretrained([s], masking=specml.Masking()), "only objective='masked'"),
        (lambda s: pretrained([s], "masked", library=s), "only objective='simulated'"),
        (lambda s: pretrained([s * 0.5], "masked", masking=specml.Masking(error="counts")), "spectra of counts"),
        (lambda s: pretrained([s - 1.0], "masked", masking=specml.Masking(error="counts")), "spectra of counts"),
        (
            lambda s: pretrained([s], "masked", masking=specml.Masking(error="counts"), normalisation="per spectrum"),
            "how many counts",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(signal: Signal1D, make: Any, message: str) -> None:
    with pytest.raises(SpecMLError, match=message):
        make(signal)


def test_adapters_are_not_asked_for_in_vain(signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray) -> None:
    with pytest.raises(SpecMLError, match="only 'lora' and 'auto'"):
        encoder.fine_tune(signal, iron, "pca", lora=specml.LoraOptions())
    with pytest.raises(SpecMLError, match="LoraOptions"):
        encoder.fine_tune(signal, iron, "lora", lora={})  # type: ignore[arg-type]


def test_seeds_are_whole_numbers(signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray) -> None:
    for call in (encoder.fine_tune, encoder.novelty):
        with pytest.raises(SpecMLError, match="random_state=-1 must be a whole number"):
            call(signal, signal if call == encoder.novelty else iron, random_state=-1)


def test_of_a_lazy_map_only_some_spectra_are_kept(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.where(np.arange(120).reshape(12, 10) % 7 == 3, iron, np.nan)
    monkeypatch.setattr("hyperspy_specml.workflows._encoder._POOL", 60)
    kept: list[int] = []
    read = specml.workflows._encoder.rows_at
    monkeypatch.setattr(
        "hyperspy_specml.workflows._encoder.rows_at",
        lambda s, pixels, on: kept.append(len(pixels)) or read(s, pixels, on),
    )
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((5, 3, -1))
    found = [encoder.fine_tune(one, labels, "pca").regress(signal).value.data for one in (signal, lazy)]
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    labelled = np.flatnonzero(np.isfinite(labels).ravel())
    assert kept == 2 * [len(set(labelled) | set(range(0, 120, 2)))]
    pixels = np.array([3, 17, 64, 119])
    assert (read(lazy, pixels, specml.Progress()) == signal.data.reshape(120, -1)[pixels]).all()


@pytest.mark.parametrize(
    ("labels", "method", "message"),
    [
        (np.zeros((12, 10), int), "auto", "of one class"),
        (np.full((12, 10), np.nan), "auto", "0 spectra have a label"),
        (np.zeros(7, int), "auto", "one label for each spectrum"),
        (np.eye(10, 12, dtype=int), "raw", r"shape \(10, 12\)\) .* shape \(12, 10\) .* labels\.T"),
        (np.eye(12, 10, dtype=int).reshape(2, 6, 10), "raw", r"shape \(2, 6, 10\)\) .* shape \(12, 10\)"),
        (np.full((12, 10), 0.5), "auto", "all 120 values are 0.5"),
        (np.full((12, 10), [{}]), "raw", "needs numbers"),
        (np.zeros((12, 10), complex), "auto", "needs numbers"),
        (np.eye(12, 10, dtype=int) - np.eye(12, 10, 3, dtype=int) - 1, "auto", "one class"),
        (np.where(np.arange(120) < 5, np.arange(120), np.nan), "auto", "5 labelled spectra of values .* 6 or more"),
        (np.where(np.arange(120) < 3, np.arange(120) // 2, -1), "auto", "1 labelled spectra of class '1' .* 2 or more"),
        (np.arange(120).reshape(12, 10), "guess", "guess"),
    ],
)
def test_labels_that_do_not_do_are_refused(
    signal: Signal1D, encoder: specml.Encoder, labels: np.ndarray, method: str, message: str
) -> None:
    with pytest.raises(SpecMLError, match=message):
        encoder.fine_tune(signal, labels, method)


def test_other_energies_are_refused(encoder: specml.Encoder, signal: Signal1D, iron: np.ndarray) -> None:
    raman = hs.signals.Signal1D(np.ones((5, 40)))
    with pytest.raises(SpecMLError, match="the encoder knows"):
        encoder.embed(raman)
    values = encoder.fine_tune(signal, iron, "pca")
    with pytest.raises(SpecMLError, match="regress"):
        values.classify(signal)
    classes = encoder.fine_tune(signal, (iron > np.median(iron)).astype(int), "pca")
    with pytest.raises(SpecMLError, match="classify"):
        classes.regress(signal)


def test_strangers_are_told_by_their_latents(signal: Signal1D, encoder: specml.Encoder) -> None:
    other = specml.datasets.fe_cr_ni_map((12, 10), n_channels=256, dose=300, random_state=1)
    strange = signal.deepcopy()
    strange.data[:2] = np.roll(strange.data[:2], 60, axis=-1)

    found, lazy = (encoder.novelty(s, other.signal) for s in (strange, strange.as_lazy()))

    assert found.p_value.axes_manager.navigation_shape == (10, 12)
    np.testing.assert_array_equal(found.p_value.data, lazy.p_value.data)
    assert (found.p_value.data[2:] <= 0.1).mean() < 0.25
    assert np.median(found.p_value.data[:2]) < 0.1 < np.median(found.p_value.data[2:])
    with pytest.raises(SpecMLError, match="5 spectra are finite, 20 at least"):
        encoder.novelty(signal, other.signal.inav[:5, 0])


@pytest.mark.parametrize("objective", ["simulated", "masked"])
def test_a_checkpoint_goes_on(signal: Signal1D, objective: str, tmp_path: Path) -> None:
    instruments = specml.Instruments(offset=0.5)
    first = pretrained([signal], objective, checkpoint=tmp_path / "best.specml", instruments=instruments)

    again = specml.Encoder.load(tmp_path / "best.specml")

    assert again.report == {"objective": objective, "corpus": first.report["corpus"]}
    latents = [one.embed(signal).data for one in (again, first)]
    np.testing.assert_array_equal(*latents)
    # It goes on where it was, with its head or decoder: the first score is the best of before, not that of chance.
    slow = specml.TrainConfig(max_steps=2, batch_size=32, evaluate_every=1, learning_rate=1e-12)
    path = tmp_path / "best.specml"
    before = path.read_bytes()
    on = specml.pretrain(
        [signal], objective, start=again, instruments=instruments, config=slow, checkpoint=path, show_progressbar=False
    )
    assert on.report["scores"][0] == pytest.approx(min(first.report["scores"]), rel=1e-5)
    if min(on.report["scores"][1:]) >= on.report["scores"][0]:
        assert path.read_bytes() == before  # no better one was found


def test_what_is_gone_on_from_keeps_its_sizes_and_all_that_it_knows(signal: Signal1D) -> None:
    other = edges_at(700.0)
    total = pretrained([signal, other], "masked", normalisation="total")
    on = specml.pretrain([signal], "simulated", start=total, config=CONFIG, show_progressbar=False)
    assert on.encoder.shape == total.encoder.shape
    assert on.encoder.normalisation == "total"
    assert np.isfinite(on.embed(other).data).all()
    labels = np.arange(40) % 2
    with pytest.raises(SpecMLError, match="such spectra"):
        on.fine_tune(other, labels, "likelihood")  # none were simulated
    assert [one.method for one in on.fine_tune(other, labels).table] == [
        "raw",
        "pca",
        "aligned",
        "parameters",
        "linear",
        "lora",
    ]
    for wrong in ({"normalisation": "square root"}, {"shape": PatchShape(patch=8, width=32, depth=1, heads=2)}):
        with pytest.raises(SpecMLError, match="begin anew"):
            specml.pretrain([signal], start=total, **wrong)


def test_energy_losses_are_simulated_from_the_edges_in_range() -> None:
    losses = specml.datasets.fe_l_map((6, 7), n_channels=128, dose=50).signal
    losses.add_elements(["Fe"])
    report = pretrained([losses]).report
    assert report["scores"][-1] < report["scores"][0]


def edges_at(first: float) -> Signal1D:
    """Return energy losses with an edge in the middle, from an energy on."""
    found = hs.signals.Signal1D(np.random.default_rng(0).poisson(20.0 + 30 * (np.arange(128) > 64), (40, 128)))
    found.set_signal_type("EELS")
    axis = found.axes_manager[-1]
    axis.offset, axis.scale, axis.units = first, 0.4, "eV"
    return found


def test_a_pooled_encoder_knows_each_of_the_spectra_it_was_trained_on() -> None:
    carbon, iron_edge = edges_at(280.0), edges_at(700.0)  # on one grid, of which each covers a tenth
    pooled = pretrained([carbon, iron_edge], "masked")
    assert len(pooled.encoder.grids) == 1
    for signal in (carbon, iron_edge):
        assert np.isfinite(pooled.embed(signal).data).all()
    with pytest.raises(SpecMLError, match="30% of either"):
        pooled.embed(edges_at(900.0))
    raman = hs.signals.Signal1D(np.ones((4, 50)))
    raman.axes_manager[-1].units = "1/cm"
    with pytest.raises(SpecMLError, match="none of these is in 1/cm"):
        pooled.embed(raman)


def test_the_encoder_in_the_package_takes_short_x_ray_spectra_and_no_energy_losses(signal: Signal1D) -> None:
    assert np.isfinite(specml.encoders.eds().embed(signal.isig[:64]).data).all()  # a quarter of what it knows
    with pytest.raises(SpecMLError, match="pretrain"):
        specml.encoders.eds().embed(edges_at(700.0))


def test_a_predictor_takes_only_spectra_of_the_kind_that_was_labelled(
    signal: Signal1D, iron: np.ndarray, tmp_path: Path
) -> None:
    other = edges_at(700.0)
    pooled = pretrained([signal, other], "masked")
    assert len(pooled.encoder.grids) == 2
    much = (iron > np.median(iron)).astype(int)
    for labelled, labels, refused in ((signal, much, other), (other, np.arange(40) % 2, signal)):
        predictor = pooled.fine_tune(labelled, labels, "pca")
        again = specml.Predictor.load(predictor.save(tmp_path / "kind", overwrite=True))
        for one in (predictor, again):
            assert one.classify(labelled).labels.data.shape == labels.shape
            with pytest.raises(SpecMLError, match="labelled spectra cover"):
                one.classify(refused)


def test_raw_knows_signs_and_intensities_and_of_counts_only_shares() -> None:
    # A dip below zero of two depths, and intensities: both are lost in roots of shares. Of counts, they must be: four
    # times the exposure is no other value.
    rng, channels = np.random.default_rng(0), np.arange(96)
    line = np.exp(-0.5 * ((channels - 50) / 4) ** 2)
    which, intensity = rng.integers(0, 2, 160), rng.uniform(50, 500, 160)
    dips = hs.signals.Signal1D(0.3 * rng.standard_normal((160, 96)) - (1 + 0.6 * which)[:, None] * line)
    absorbed = hs.signals.Signal1D(intensity[:, None] * line + 0.1 * rng.standard_normal((160, 96)))
    known = np.arange(160) < 40
    for method in ("raw", "pca"):
        found = pretrained([dips], "masked").fine_tune(dips, np.where(known, which, -1), method).classify(dips)
        assert (found.labels.data == which)[~known].mean() > 0.95, method
    labels = np.where(known, intensity, np.nan)
    value = pretrained([absorbed], "masked").fine_tune(absorbed, labels, "raw").regress(absorbed).value.data[~known]
    assert np.corrcoef(value, intensity[~known])[0, 1] > 0.97
    mixed = intensity[:, None] / 500 * np.roll(line, -20) + (1 - intensity[:, None] / 500) * line
    once, longer = (hs.signals.Signal1D(rng.poisson(n * mixed)) for n in (300, 1200))
    found = pretrained([once], "masked").fine_tune(once, labels, "raw").regress(longer)
    said, true = found.error.data[~known], found.value.data[~known] - intensity[~known]
    assert np.sqrt(np.mean(true**2)) < 1.3 * np.sqrt(np.mean(said**2))


@pytest.mark.parametrize("method", ["pca", "auto"])
def test_errors_of_values_are_those_of_spectra_of_as_many_counts(
    encoder: specml.Encoder, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Labels are of long exposures; the map to be read is of long or of short ones.
    monkeypatch.setattr("hyperspy_specml.pretraining._predict._STEPS", 2)
    simulate = partial(specml.datasets.fe_cr_ni_map, (16, 16), n_channels=256)
    labelled, rng = simulate(dose=2000), np.random.default_rng(0)
    share = labelled.truth["abundances"].data[0]
    predictor = encoder.fine_tune(labelled.signal, np.where(rng.random(share.shape) < 0.4, share, np.nan), method)
    again = specml.Predictor.load(predictor.save(tmp_path / "share"))
    said = []
    for dose in (2000, 200, 20):
        other = simulate(dose=dose, random_state=1)
        found = predictor.regress(other.signal)
        true = np.sqrt(np.mean((found.value.data - other.truth["abundances"].data[0]) ** 2))
        said.append(float(np.sqrt(np.mean(found.error.data**2))))
        assert true / 1.6 < said[-1] < 1.6 * true
        np.testing.assert_array_equal(again.regress(other.signal).error.data, found.error.data)
    assert said[0] < said[1] / 1.5 < said[2] / 1.5**2


def test_the_zero_energy_peak_of_a_detector_is_not_looked_at(encoder: specml.Encoder, iron: np.ndarray) -> None:
    simulated = specml.datasets.fe_cr_ni_map((12, 10), n_channels=1024, dose=300)  # channels of 20 eV, from 0
    plain, peaked = simulated.signal, simulated.signal.deepcopy()
    peaked.data[..., :4] += np.random.default_rng(0).poisson(2000, (12, 10, 4)).astype(peaked.data.dtype)
    kept = peaked.data.copy()
    truth = (iron > np.median(iron)).astype(int)
    for one in (plain, peaked):
        one.set_signal_type("EDS_TEM")
    np.testing.assert_array_equal(encoder.embed(peaked).data, encoder.embed(plain).data)
    np.testing.assert_array_equal(encoder.embed(peaked.inav[2, 3]).data, encoder.embed(plain.inav[2, 3]).data)
    predictors = [encoder.fine_tune(one, truth, "pca") for one in (plain, peaked)]
    found = [predictor.classify(peaked).probability.data for predictor in predictors]
    np.testing.assert_array_equal(*found)
    pair = [pretrained([one], "masked") for one in (plain, peaked)]
    assert pair[0].report == pair[1].report
    np.testing.assert_array_equal(peaked.data, kept)


def test_calls_are_followed_and_cancelled(
    signal: Signal1D, encoder: specml.Encoder, iron: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.pretraining._predict._STEPS", 2)

    class Watched(specml.Progress):
        def __init__(self, last: str | None = None) -> None:
            super().__init__()
            self.stages: list[str] = []
            self.last = last

        def show(self) -> None:
            self.stages.append(self.stage)
            if self.stage == self.last:
                self.cancel()

    much, watched = np.where(np.arange(120).reshape(12, 10) % 6 == 0, iron > np.median(iron), -1), Watched()
    predictor = encoder.fine_tune(signal, much, show_progressbar=watched)
    assert watched.fraction == 1
    assert {"Read spectra", "Try raw", "Try lora"} <= set(watched.stages)
    for call in (encoder.embed, partial(encoder.novelty, ordinary=signal), predictor.classify):
        watched = Watched()
        call(signal, show_progressbar=watched)
        assert watched.fraction == 1
        with pytest.raises(Cancelled):
            call(signal, show_progressbar=Watched("Encode"))
    with pytest.raises(Cancelled):
        encoder.fine_tune(signal, much, show_progressbar=Watched("Try pca"))


def corpus(signals: Any, objective: str = "masked", **options: Any) -> str:
    config = specml.TrainConfig(max_steps=1, batch_size=4)
    found = specml.pretrain(signals, objective, shape=SMALL, config=config, show_progressbar=False, **options)
    return found.report["corpus"]


def test_the_fingerprint_of_recorded_spectra_is_of_their_values_and_energies(
    signal: Signal1D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.streaming._map._ROWS_FOR_PRODUCT", (3, 3))  # blocks of 5 x 3
    one, titled, lazy, other, moved, in_ev = (signal.deepcopy() for _ in range(6))
    titled.metadata.General.title = "Renamed"
    titled.change_dtype("float32")
    lazy = lazy.as_lazy()
    lazy.data = lazy.data.rechunk((5, 3, 100))
    signal.save(tmp_path / "map.hspy", chunks=(4, 4, 64))
    axis = in_ev.axes_manager[-1]
    axis.units, axis.scale, axis.offset = "eV", 1000 * axis.scale, 1000 * axis.offset
    other.data[3, 4, 5] += 1
    moved.axes_manager[-1].offset += 0.01

    same = [corpus([each]) for each in (one, titled, lazy, tmp_path / "map.hspy", in_ev)]

    assert len(set(same)) == 1
    assert len({same[0], corpus([other]), corpus([moved]), corpus([one, other]), corpus([other, one])}) == 5


def test_the_fingerprint_of_simulated_spectra_is_of_what_is_simulated(signal: Signal1D, simulated: Any) -> None:
    counted, zinc, library = signal.deepcopy(), signal.deepcopy(), simulated.endmembers.deepcopy()
    counted.data[:] = 0  # nothing is learnt of them
    zinc.metadata.Sample.elements = ["Cu", "Zn"]
    library.data[0, 100] *= 1.01
    elements = corpus([signal], "simulated")
    assert corpus([counted], "simulated") == elements
    libraries = [corpus([signal], "simulated", library=one) for one in (simulated.endmembers, library)]
    assert len({elements, corpus([zinc], "simulated"), *libraries}) == 4


def test_what_is_learnt_does_not_depend_on_chunks(signal: Signal1D, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperspy_specml.streaming._map._ROWS_FOR_PRODUCT", (3, 3))  # blocks of 5 x 3
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((5, 3, 100))
    one, other = (pretrained([each], "masked").encoder.fingerprint for each in (signal, lazy))
    assert one == other


def test_counts_are_counts_in_any_type(signal: Signal1D) -> None:
    floats = signal.deepcopy()
    floats.change_dtype("float64")
    masking = specml.Masking(error="counts")
    one, other = (pretrained([each], "masked", masking=masking).encoder.fingerprint for each in (signal, floats))
    assert one == other


@pytest.mark.parametrize(
    ("n_channels", "patch", "channels", "repair"),
    [(256, 300, "256 channels make 1 patch of 300", r"PatchShape\(patch=32\)"), (2, None, "2 channels", r"patch=1\)")],
)
def test_spectra_of_one_patch_are_refused(n_channels: int, patch: int | None, channels: str, repair: str) -> None:
    s = hs.signals.Signal1D(np.random.default_rng(0).poisson(30, (7, 5, n_channels)))
    shape = None if patch is None else PatchShape(patch=patch, width=16, depth=1, heads=2)
    with pytest.raises(SpecMLError, match=f"{channels}.*{repair}"):
        specml.pretrain([s], "masked", shape=shape, config=CONFIG, show_progressbar=False)


def test_a_signal_that_no_patch_fits_is_to_be_left_out() -> None:
    wide, narrow = (hs.signals.Signal1D(np.ones((3, n))) for n in (40_000, 20))
    narrow.axes_manager[-1].offset = 107.0  # between two of 128 channels of 313
    with pytest.raises(SpecMLError, match=r"20\)>\].*no patch of 2 channels on the grid. Leave this signal out"):
        specml.pretrain([wide, narrow], "masked", shape=PatchShape(patch=2), config=CONFIG, show_progressbar=False)


def test_patches_are_an_eighth_of_the_longest_axis_or_32_channels(signal: Signal1D) -> None:
    config = specml.TrainConfig(max_steps=1, batch_size=4)
    raman = hs.signals.Signal1D(np.random.default_rng(0).random((30, 100)))
    raman.axes_manager[-1].units = "1/cm"
    for signals, patch in (([raman], 12), ([raman, signal], 32)):
        assert specml.pretrain(signals, "masked", config=config, show_progressbar=False).encoder.shape.patch == patch


def test_signals_that_are_not_simulated_are_named(
    signal: Signal1D, simulated: Any, caplog: pytest.LogCaptureFixture
) -> None:
    raman = hs.signals.Signal1D(np.ones((5, 40)))
    raman.axes_manager[-1].units, raman.metadata.General.title = "1/cm", "Oxide"
    for options in ({}, {"library": simulated.endmembers}):
        caplog.clear()
        pretrained([signal], **options)
        assert "nothing is simulated" not in caplog.text
        pretrained([signal, raman], **options)
        assert "nothing is simulated for 'Oxide'" in caplog.text


@pytest.mark.parametrize("change", [{"units": "1/cm"}, {"offset": 30.0}])
def test_a_library_of_other_energies_is_refused(signal: Signal1D, simulated: Any, change: dict[str, Any]) -> None:
    library = simulated.endmembers.deepcopy()
    for name, value in change.items():
        setattr(library.axes_manager[-1], name, value)
    with pytest.raises(SpecMLError, match=r"covers .*, but the signals 0 to 20400 eV.*Set offset, scale and units"):
        pretrained([signal], library=library)


@pytest.mark.parametrize(
    ("numbers", "channels", "kept"),
    [
        ([200], [10], [100]),  # of all, the number of spectra
        ([200], [100], [40]),  # or their bytes
        ([200, 200], [10, 100], [50, 20]),
        ([10, 200, 200], [10, 10, 10], [10, 45, 45]),
        ([200, 10, 200], [100, 100, 100], [15, 10, 15]),
        ([30, 60], [10, 10], [30, 60]),
    ],
)
def test_what_small_sources_leave_is_for_the_others(
    numbers: list[int], channels: list[int], kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.workflows._corpus._CORPUS", 100)
    monkeypatch.setattr("hyperspy_specml.workflows._corpus._MOST_BYTES", 40 * 4 * 100)
    assert parts(numbers, channels) == kept


def test_as_many_spectra_are_read_as_there_is_room_for(signal: Signal1D, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperspy_specml.workflows._corpus._CORPUS", 130)
    small = signal.inav[:1, :5]
    grid = pretrained([signal]).encoder.grids[0]
    sources, digests = read([signal, small], [grid, grid], 16)
    assert [len(source.rows) for source in sources] == [len(digest) for digest in digests] == [120, 5]
    monkeypatch.setattr("hyperspy_specml.workflows._corpus._CORPUS", 65)
    sources, _ = read([signal, small], [grid, grid], 16)
    assert [len(source.rows) for source in sources] == [60, 5]
    np.testing.assert_allclose(sources[0].rows, signal.data.reshape(120, -1)[::2], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"max_steps": 2}}, "must be a TrainConfig"),
        ({"masking": {"hidden": 0.5}}, r"Masking, not dict, e.g. masking=specml.Masking\("),
        ({"instruments": {}}, "Instruments, not dict"),
        ({"shape": {}}, "PatchShape, not dict"),
        ({"start": "x.specml"}, r"Encoder, not str, e.g. start=specml.Encoder.load\("),
        ({"library": np.ones((3, 256))}, r"BaseSignal, not ndarray, e.g. library=hs.signals.Signal1D\("),
        ({"library": hs.signals.Signal2D(np.ones((3, 4, 5)))}, "noise-free spectra"),
        ({"checkpoint": 5}, "must be a path"),
    ],
)
def test_arguments_of_another_class_are_refused(signal: Signal1D, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecMLError, match=message):
        specml.pretrain([signal], show_progressbar=False, **options)


@pytest.mark.parametrize("signals", [None, 5, np.ones((4, 100)), [None]])
def test_what_is_no_signal_is_refused(signals: Any) -> None:
    with pytest.raises(SpecMLError, match="needs signals of spectra, or paths of files"):
        pretrained(signals)


def test_a_folder_that_is_not_there_is_said_before_training(
    signal: Signal1D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.workflows._pretrain._all_opened", None)  # nothing is read
    with pytest.raises(SpecMLError, match=r"there is no folder .*mkdir"):
        pretrained([signal], checkpoint=tmp_path / "none" / "best.specml")
