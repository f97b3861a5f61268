"""Trained models go through files unchanged, and damaged or made-up files are refused."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import ModelFileError, ModelFileExistsError
from hyperspy_specml.models import _file
from hyperspy_specml.models._file import pack, unpack

FRESH = """
import numpy as np, hyperspy.api as hs
data = np.load("data.npy")
for units, step in (("eV", 1), ("keV", 1000)):
    s = hs.signals.Signal1D(data)
    axis = s.axes_manager[-1]
    axis.units, axis.scale, axis.offset = units, 0.25 / step, 700 / step
    dec = s.decomposition_ae(model="fe.specml", show_progressbar=False)
    np.save(units, np.concatenate([dec.scores.data, dec.baseline.scores.data]))
print("torch" in __import__("sys").modules)
"""


@pytest.fixture(scope="module", params=["pca", "dense", "conv", "simplex", "vae"])
def architecture(request):
    return request.param


@pytest.fixture
def trained(fitted, architecture):
    return fitted(architecture)[1].model


@pytest.fixture
def path(trained, tmp_path):
    return trained.save(tmp_path / "fe")


@pytest.fixture
def other(make_map, make_counts):
    return make_map(data=make_counts((7, 9), seed=5))


def apply(signal, model):
    return signal.decomposition_ae(model=model, show_progressbar=False)


def assert_same(one, other):
    """Compare two dataclasses field by field, arrays bit for bit."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b)
        elif dataclasses.is_dataclass(a):
            assert_same(a, b)
        elif field.name not in ("network", "model"):
            assert a == b, field.name


def test_everything_that_is_known_of_a_model_comes_back(trained, path):
    loaded = specml.load_model(path)

    assert repr(loaded) == repr(trained)
    assert_same(loaded, trained)
    assert_same(loaded.model, trained.model)
    assert_same(loaded.baseline.model, trained.baseline.model)
    assert str(loaded.report) == str(trained.report)
    assert loaded.report.random_state == 0
    assert loaded.config.max_steps == 60
    assert loaded.baseline.baseline is None


def test_the_fingerprint_is_that_of_the_data(fitted, architecture, path):
    signal, _ = fitted(architecture)

    found = specml.load_model(path).fingerprint

    assert (found.shape, found.n_spectra) == (signal.data.shape, 204)
    np.testing.assert_array_equal(found.channel_sums, signal.data.sum(axis=(0, 1), dtype=float))


def test_a_loaded_model_gives_the_scores_of_the_one_that_was_saved_bit_for_bit(other, trained, path):
    expected = apply(other, trained)

    for model in (specml.load_model(path), path, str(path)):
        dec = apply(other, model)
        np.testing.assert_array_equal(dec.scores.data, expected.scores.data)
        np.testing.assert_array_equal(dec.baseline.scores.data, expected.baseline.scores.data)
        np.testing.assert_array_equal(dec.components.data, expected.components.data)
        assert dec.report.trained_on == "steel"


def test_a_fresh_process_gives_the_same_bits_in_ev_and_in_kev(other, trained, path, python, architecture):
    dec = apply(other, trained)
    expected = np.concatenate([dec.scores.data, dec.baseline.scores.data])
    np.save(path.parent / "data.npy", other.data)

    network = hasattr(
        getattr(trained.model, "still", trained.model), "network"
    )  # of one that is moved: the model of it
    assert architecture in ("pca", "simplex") or network
    assert python(FRESH).endswith(f"{network}\n")  # torch is loaded where there is a network

    for units in ("eV", "keV"):
        np.testing.assert_array_equal(np.load(path.parent / f"{units}.npy"), expected)


def test_a_loaded_model_saves_to_the_same_bytes(path, tmp_path):
    again = specml.load_model(path).save(tmp_path / "again.specml")

    assert again.read_bytes() == path.read_bytes()


def test_saving_over_a_file_has_to_be_said(trained, path):
    before = path.read_bytes()

    with pytest.raises(ModelFileExistsError, match=r"overwrite=True\) replaces it"):
        trained.save(path)
    assert trained.save(path, overwrite=False) == path
    assert trained.baseline.save(path, overwrite=True) == path

    assert path.read_bytes() != before
    assert specml.load_model(path).model.architecture == "pca"


def test_the_baseline_has_a_file_of_its_own(other, trained, tmp_path):
    path = trained.baseline.save(tmp_path / "pca")

    dec = apply(other, path)

    assert dec.baseline is None
    np.testing.assert_array_equal(dec.scores.data, apply(other, trained).baseline.scores.data)


def test_a_thousand_damaged_files_are_a_thousand_clear_errors(path):
    raw = path.read_bytes()
    random = np.random.default_rng(0)
    n_header = int.from_bytes(raw[:8], "little")

    def damaged(i):
        copy = bytearray(raw)
        where = random.integers(len(raw) if i % 2 else 8 + n_header)  # the header is the smaller part
        kind = i % 5
        if kind == 0:
            return copy[:where]
        if kind == 1:
            copy[where] ^= 1 << random.integers(8)
        elif kind == 2:
            noise = random.bytes(int(random.integers(1, 200)))
            copy[where : where + len(noise)] = noise
        elif kind == 3:
            copy[:8] = random.bytes(8) if i % 2 else int(random.integers(2 * len(raw))).to_bytes(8, "little")
        else:
            del copy[where : where + int(random.integers(1, 50))]
        return copy

    for i in range(1000):
        path.write_bytes(damaged(i))
        with pytest.raises(ModelFileError, match=r"^load_model\('.*fe\.specml'\): the file "):
            specml.load_model(path)


def drop(name):
    return lambda description, arrays: arrays.pop(f"model.{name}")


def put(name, value):
    return lambda description, arrays: arrays.update({f"model.{name}": value(arrays[f"model.{name}"])})


def say(*steps, value):
    def change(description, arrays):
        place = description["model"]
        for step in steps[:-1]:
            place = place[step]
        place[steps[-1]] = value

    return change


def not_a_model(description, arrays):
    description["model"] = None


def spoil(array):
    array.flat[3] = np.nan
    return array


def rewritten(path, change):
    """Write a file with a right checksum and changed content."""
    description, arrays = unpack(path.read_bytes(), "x")
    change(description, arrays)
    path.write_bytes(pack(description, arrays))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("fitted.basis.weights"), r"array 'basis\.weights' is missing"),
        (drop("channel_state"), r"array 'channel_state' is missing"),
        (drop("channel_sums"), r"array 'channel_sums' is missing"),
        (drop("baseline.fitted.basis.offset"), r"array 'basis\.offset' is missing"),
        (put("fitted.basis.weights", lambda a: a[:-1]), r"'basis\.weights' has shape \(60,\), not \(61,\)"),
        (put("fitted.basis.vectors", lambda a: a[:, :, None]), r"'basis\.vectors' has shape \(61, \d+, 1\), not"),
        (put("fitted.basis.vectors", lambda a: a.astype(np.int64)), r"'basis\.vectors' has dtype int64"),
        (put("fitted.basis.vectors", spoil), r"'basis\.vectors' holds values that are not finite"),
        (put("fitted.basis.weights", np.negative), r"'basis\.weights' holds values that are not positive"),
        (put("channel_state", lambda a: a + 9), r"'channel_state' .* no states"),
        (put("channel_state", lambda a: a.astype(float)), r"'channel_state' .* no states"),
        (put("channel_state", lambda a: np.r_[a, a]), r"energy_axis is .*, no axis of 122 channels"),
        (put("channel_state", lambda a: np.r_[a[:-1], a[:1] + 1]), r"has 61 channels, but 60 are in use"),
        (not_a_model, r"setting 'model' is None, not of type dict"),
        (say("method", value="forecast"), r"method 'forecast' is not one of .*'decomposition_ae'"),
        (say("fitted", "kind", value="lstm"), r"kind of model 'lstm' is not one of 'pca', "),
        (say("fitted", value=[]), r"setting 'fitted' is \[\], not of type dict"),
        (say("energy_axis", "scale", value="wide"), r"energy_axis is .*'wide'"),
        (say("energy_axis", value={}), r"energy_axis is \{\}, no axis of 61 channels"),
        (say("report", "n_components", value="4"), r"report\.n_components is '4', of the wrong type"),
        (say("report", "secret", value=4), r"report has secret, which this version does not"),
        (say("config", "max_steps", value=0), r"TrainConfig\(max_steps=0\) must be a positive number"),
        (say("fingerprint", "shape", value=[1, "2"]), r"fingerprint\.shape\[1\] is '2'"),
        (say("title", value=3), r"title is 3, of the wrong type"),
        (say("baseline", value=[1]), r"setting 'baseline' is \[1\], not of type dict"),
    ],
)
def test_a_file_with_a_right_checksum_and_wrong_content_is_refused_with_the_reason(path, change, message):
    with pytest.raises(ModelFileError, match=r"fe\.specml'\): the file, written with .*" + message):
        specml.load_model(rewritten(path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("fitted.network.decode_linear.bias"), r"Missing key.*decode_linear\.bias"),
        (put("fitted.network.encode_mlp.2.weight", lambda a: a[1:]), r"size mismatch for encode_mlp\.2\.weight"),
        (
            put("fitted.network.encode_mlp.0.weight", lambda a: np.ones((10**6, a.shape[1]))),
            r"size mismatch for encode_mlp\.0\.weight",
        ),
        (put("fitted.rotation", lambda a: a[1:]), r"'rotation' has shape \(2, 3\), not \(3, 3\)"),
        (say("fitted", "scale", value="1"), r"setting 'scale' is '1', not of type float"),
        (put("fitted.network.decode_linear.bias", spoil), r"decode_linear\.bias' holds values that are not finite"),
        (
            say("fitted", "architecture", value="lstm"),
            r"architecture 'lstm' is not one of 'dense', 'conv', 'vae'.*import",
        ),
        (say("fitted", "options", "n_hidden", value=10**12), r"options .* of architecture 'dense': "),
        (say("fitted", "options", "n_hidden", value=-3), r"options .*'n_hidden': -3.* of architecture 'dense': "),
        (say("fitted", "options", "n_layers", value=10**9), r"n_layers is 1000000000, not 1 to 100"),
        (say("fitted", "options", "n_hidden", value="32"), r"options .*'n_hidden': '32'.* of architecture 'dense': "),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_it_is_built(fitted, tmp_path, change, message):
    path = fitted("dense")[1].model.save(tmp_path / "fe")

    with pytest.raises(ModelFileError, match=message):
        specml.load_model(rewritten(path, change))


def test_a_file_of_the_version_before_says_that_the_model_has_to_be_trained_anew(path):
    content = path.read_bytes().replace(b'\\"format_version\\": 2', b'\\"format_version\\": 1')
    zeros = re.sub(rb'(sha256\\": \\")[0-9a-f]{64}', rb"\g<1>" + b"0" * 64, content)
    path.write_bytes(_file._sealed(zeros))

    with pytest.raises(ModelFileError, match=r"has version 1 of the format.*train the model anew"):
        specml.load_model(path)
