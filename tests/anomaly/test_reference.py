"""The reference model of one map scores the next: ``s2.anomaly_map(model=found.model)``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

import hyperspy_specml as specml
from hyperspy_specml.anomaly import ReferenceModel
from hyperspy_specml.datasets import RarePhase, ShiftedEdge, fe_cr_ni_map, fe_l_map
from hyperspy_specml.exceptions import EnergyAxisMismatchError, ModelFileError, OptionError
from hyperspy_specml.models import parts_of

SHAPE = (44, 37)
pytestmark = pytest.mark.usefixtures("few_drawn_pixels")


def search(signal, **options):
    return signal.anomaly_map(show_progressbar=False, **options)


@pytest.fixture(scope="module")
def rare():
    return fe_cr_ni_map(SHAPE, n_channels=257, dose=400, rare_phase=RarePhase(12, 0.6), random_state=2)


@pytest.fixture(scope="module")
def found(rare):
    return search(rare.signal)


@pytest.fixture(scope="module")
def ordinary():
    return fe_cr_ni_map(SHAPE, n_channels=257, dose=400, random_state=2)


@pytest.fixture(scope="module")
def path(found, tmp_path_factory):
    return found.model.save(tmp_path_factory.mktemp("models") / "reference")


def test_the_model_of_a_map_gives_the_map_the_same_scores(rare, found, path):
    again = search(rare.signal, model=specml.load_model(path))

    np.testing.assert_array_equal(again.score.data, found.score.data)
    assert [region.pixels for region in again.regions] == [region.pixels for region in found.regions]
    assert again.report.trained_on == found.model.title
    assert (again.report.n_windows, again.report.model) == (found.report.n_windows, "pca")


def test_a_file_holds_everything(found, path):
    stored, again = parts_of(found.model.model), parts_of(specml.load_model(path).model)

    assert again.settings == stored.settings
    assert again.arrays.keys() == stored.arrays.keys()
    for name, array in stored.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    assert specml.load_model(path).report.patches_left_out == found.report.patches_left_out


def test_the_file_is_read_twice_and_the_spectra_of_regions_once_more(rare, path, counted, read_again):
    file = counted(rare.signal.data)
    lazy = rare.signal._deepcopy_with_new_data(file.dask((8, 37, 257))).as_lazy()

    again = search(lazy, model=str(path))

    assert again.regions
    assert 2 <= file.reads.mean() <= 2 + read_again(again, 8)


@pytest.mark.parametrize("kind", ["X-ray lines", "edges that drift"])
def test_p_values_of_another_draw_are_calibrated(rare, ordinary, found, kind):
    first, other, model = rare, ordinary, found.model
    if kind == "edges that drift":
        options = {"n_channels": 256, "dose": 200, "rare_phase": ShiftedEdge(24, 1.2), "random_state": 2}
        first = other = fe_l_map((64, 70), **options)
        model = search(first.signal).model
    near = scipy.ndimage.binary_dilation(first.rare_mask.data, iterations=3)

    maps = [search(other.counts(random_state=seed), model=model).p_value.data[~near] for seed in (20, 21)]

    p = np.concatenate(maps)
    p = p[np.isfinite(p)]
    assert (p < 0.1).mean() == pytest.approx(0.1, rel=0.25)
    assert (p < 0.01).mean() == pytest.approx(0.01, rel=0.6)


@pytest.fixture(scope="module")
def model_of_ordinary(ordinary):
    return search(ordinary.counts(random_state=31)).model


def test_a_planted_phase_is_found_with_the_model_of_an_ordinary_map(rare, model_of_ordinary):
    (region,) = search(rare.signal, model=model_of_ordinary).regions

    assert sum(rare.rare_mask.data[y, x] for x, y in region.pixels) >= 10
    assert "Nb" in [candidate.element for candidate in region.candidates[:3]]


def test_known_spectra_are_added_to_a_calibrated_model(rare, model_of_ordinary, found):
    model = model_of_ordinary

    again = search(rare.signal, model=model, known=found.spectra)

    assert again.regions == ()
    assert again.model.model.n_components == model.model.n_components + 1
    assert again.report.n_components == model.model.n_components + 1
    np.testing.assert_array_equal(again.model.model.model_error, model.model.model_error)
    assert search(rare.signal, model=again.model).regions == ()  # with one more component it can be saved, too


def test_a_network_is_a_reference_model_too(rare, tmp_path):
    config = specml.TrainConfig(max_steps=100)
    first = search(rare.signal, architecture="dense", config=config)

    again = search(rare.signal, model=first.model.save(tmp_path / "dense"))

    np.testing.assert_allclose(again.score.data, first.score.data, rtol=1e-5, atol=1e-5)
    assert again.report.candidates[0].name == f"dense ({first.report.n_components})"


@pytest.fixture(scope="module")
def drifting():
    return fe_l_map((40, 48), n_channels=256, dose=200, rare_phase=ShiftedEdge(24, 1.2), random_state=1)


@pytest.fixture(scope="module")
def found_drifting(drifting):
    return search(drifting.signal)


def test_lines_that_drift_are_moved_to_where_the_model_has_its_spectra(drifting, found_drifting, tmp_path):
    first = found_drifting
    path = first.model.save(tmp_path / "edges")

    again = search(drifting.signal, model=path)

    assert first.report.drift is not None
    assert again.report.drift == first.report.drift
    np.testing.assert_array_equal(again.score.data, first.score.data)
    assert len(again.regions) == len(first.regions) == 1
    assert again.regions[0].shift == pytest.approx(first.regions[0].shift, rel=1e-6)

    moved = drifting.signal.deepcopy()  # another zero of the energy axis, which drifts anyway
    moved.data[..., 2:] = drifting.signal.data[..., :-2]
    by = np.array(search(moved, model=path).report.drift) - np.array(first.report.drift)
    assert np.median(by) == pytest.approx(2 * 0.2)  # eV; a channel has 0.2 eV
    assert np.isclose(by, 2 * 0.2).mean() > 0.9


def test_lines_that_lack_channels_of_the_model_are_not_searched(drifting, found_drifting, caplog):
    far = drifting.signal.deepcopy()
    line = int(np.argmax(found_drifting.report.drift))
    far.data[line, :, 3:] = drifting.signal.data[line, :, :-3]

    again = search(far, model=found_drifting.model)

    assert np.isnan(again.score.data[line]).all()
    assert np.isfinite(np.delete(again.score.data, line, axis=0)).all()
    assert "1 of 40 scan lines have drifted so far" in caplog.text


def test_other_channels_have_the_windows_at_the_same_energies(rare, found):
    coarse = rare.signal.isig[:256].rebin(scale=(1, 1, 2))
    model = search(rare.signal.isig[:256]).model

    again = search(coarse, model=model)

    assert again.regions[0].energy == pytest.approx(found.regions[0].energy, abs=0.05)
    overlap = {*again.regions[0].pixels} & {*found.regions[0].pixels}
    assert len(overlap) >= 10
    assert abs((again.p_value.data < 0.01).mean() - (found.p_value.data < 0.01).mean()) < 0.02
    assert again.report.resampled_from is not None
    here, there = model.model.windows, again.model.model.windows
    axes = [signal.axes_manager.signal_axes[0] for signal in (rare.signal, coarse)]
    energies = [np.interp(w.centres, np.arange(a.size), a.axis) for w, a in zip((here, there), axes, strict=True)]
    assert len(there) > 0.9 * len(here)
    assert np.abs(np.interp(energies[1], np.sort(energies[0]), np.sort(energies[0])) - energies[1]).max() < 0.01


def test_noise_that_is_measured_for_its_channels_is_not_resampled(make_map):
    rng = np.random.default_rng(0)
    peak = np.exp(-0.5 * ((np.arange(60) - 30) / 3) ** 2)
    data = 100 + rng.normal(0, 3, (31, 27, 60)) + 60 * rng.uniform(0.5, 1, (31, 27, 1)) * peak
    signal = make_map(data=data.astype(np.float32))
    model = search(signal, noise="poisson-gaussian").model

    with pytest.raises(EnergyAxisMismatchError, match="was measured for the channels of the reference model"):
        search(signal.rebin(scale=(1, 1, 2)), model=model)


@pytest.mark.parametrize(
    "given",
    [
        {"options": specml.DenseOptions()}, {"architecture": "dense"}, {"output_dimension": 3},
        {"noise": "poisson"}, {"device": "cpu"}, {"random_state": 1}, {"signal_mask": np.arange(257) < 3},
        {"config": specml.TrainConfig(max_steps=3)},
    ],
)  # fmt: skip
def test_arguments_that_a_model_would_have_to_ignore_are_refused(rare, found, given):
    (name,) = given

    with pytest.raises(OptionError, match=f"anomaly_map.{name}=.*the model has its own, fixed when it was tr"):
        search(rare.signal, model=found.model, **given)


def test_the_seed_of_drawn_maps_has_an_effect_beside_the_model_of_a_decomposition(ordinary):
    signal = ordinary.counts(random_state=31)
    model = signal.decomposition_ae(3, architecture="pca", show_progressbar=False).model

    one, other = (search(signal, model=model, random_state=seed).p_value.data for seed in (0, 1))

    assert (one != other).any()
    with pytest.raises(OptionError, match=r"random_state=\.\.\."):
        search(signal, model=model, statistic="rx", threshold=9.0, random_state=1)


def test_models_of_other_methods_are_refused(rare, found):
    with pytest.raises(OptionError, match=r"this one is of anomaly_map: s.anomaly_map\(model=...\)"):
        rare.signal.decomposition_ae(model=found.model, show_progressbar=False)


def test_a_damaged_file_is_an_error(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.specml").write_bytes(content)

    with pytest.raises(ModelFileError, match="damaged"):
        specml.load_model(tmp_path / "damaged.specml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: s.pop("noise"), "setting 'noise' is None"),
        (lambda s, a: s.update(noise={"name": "poisson-gaussian"}), "describes no noise model"),
        (lambda s, a: s.update(drift_range=[3, 1]), "no range of channels about 0"),
        (lambda s, a: a.update({"windows.stops": a["windows.stops"] + 1000}), "no intervals of 255 channels"),
        (lambda s, a: a.update({"model_error": -1 - a["model_error"]}), "'model_error' holds negative values"),
        (lambda s, a: a.update({"model_error": a["model_error"][1:]}), "'model_error' has shape"),
        (lambda s, a: a.pop("line_width"), "belong together"),
        (lambda s, a: s["null"].update(slope=0.0), "the slope of the null distribution"),
        (lambda s, a: a.update({"null.expected": a["null.expected"][::-1]}), "do not rise"),
        (lambda s, a: a.update({"model_error": a["model_error"] * np.nan}), "not finite"),
    ],
)
def test_parts_that_make_up_no_model_are_refused(found, change, message):
    parts = parts_of(found.model.model)
    settings = {**parts.settings, "null": {**parts.settings["null"]}}
    arrays = {name: array.copy() for name, array in parts.arrays.items()}
    change(settings, arrays)

    with pytest.raises(ValueError, match=message):
        replace(parts, settings=settings, arrays=arrays).model()


def test_it_encodes_and_decodes_as_the_model_inside(rare, found):
    reference = found.model.model
    rows = rare.signal.data[0][:, found.model.channels]

    assert isinstance(reference, ReferenceModel)
    scores = reference.encode(rows)
    np.testing.assert_array_equal(scores, reference.model.encode(rows))
    np.testing.assert_array_equal(reference.decode(scores), reference.model.decode(scores))
    assert reference.components().shape == (reference.n_components, rows.shape[1])
