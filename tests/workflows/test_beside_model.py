"""Nothing is ignored in silence: what a model has decided, devices that are not there, foreign options."""

from __future__ import annotations

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import OptionError

ARCHITECTURES = ("pca", "dense", "conv", "simplex", "vae")
REFUSED = {
    "output_dimension": ({"output_dimension": 2}, r"output_dimension=\.\.\."),
    "architecture": ({"architecture": "another"}, r"architecture=\.\.\."),
    "options": ({"options": specml.DenseOptions()}, r"options=\.\.\."),
    "noise": ({"noise": "gaussian"}, r"noise=\.\.\."),
    "energy_shift": ({"energy_shift": True}, r"energy_shift=\.\.\."),
    "signal_mask": ({"signal_mask": np.arange(61) == 0}, r"signal_mask=\.\.\."),
    "random_state": ({"random_state": 1}, r"random_state=\.\.\."),
    "device": ({"device": "cpu"}, r"device=\.\.\."),
    "steps": ({"config": specml.TrainConfig(max_steps=5)}, r"config=TrainConfig\(max_steps\)"),
    "training": (
        {"config": specml.TrainConfig(restarts=3, learning_rate=0.1, memory_budget=10**7)},
        r"config=TrainConfig\(learning_rate, restarts\)",
    ),
    "kernel": ({"config": specml.TrainConfig(kernel="float32")}, r"config=TrainConfig\(kernel\)"),
}


@pytest.fixture
def file(counted, make_counts):
    return counted(make_counts((7, 9), seed=5))


@pytest.fixture
def other(make_map, file, unchanged):
    """Another map of the same kind, read from a file that counts."""
    return unchanged(make_map(data=file.dask((3, 4, 20))))


@pytest.mark.parametrize("own", ARCHITECTURES)
@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_that_the_model_has_decided_is_refused_before_the_file_is_read(fitted, file, other, own, name):
    options, said = REFUSED[name]
    if name == "architecture":
        options = {"architecture": "simplex" if own == "pca" else "pca"}
    model = fitted(own)[1].model
    argument = said.partition("=")[0]

    with pytest.raises(
        OptionError,
        match=rf"decomposition_ae\({said}, model=<TrainedModel {own}, .*the model has its own, fixed when it "
        rf"was trained\. Leave {argument} out, or leave model out to fit anew\.",
    ):
        other.decomposition_ae(model=model, show_progressbar=False, **options)

    assert not file.reads.any()


@pytest.mark.parametrize("own", ARCHITECTURES)
def test_what_agrees_with_the_model_and_what_concerns_the_new_map_may_be_said(fitted, other, own):
    model, mask = fitted(own)[1].model, np.zeros((7, 9), bool)
    mask[3] = True

    dec = other.decomposition_ae(
        3, model=model, architecture=own, navigation_mask=mask, noise="auto", random_state=0, device="auto",
        config=specml.TrainConfig(memory_budget=10**7), show_progressbar=specml.Progress(),
    )  # fmt: skip

    assert dec.report.n_components == 3
    assert dec.report.used["pixels"] == {"used": 54, "masked": 9}


def test_shifts_may_be_asked_of_a_model_that_has_them(make_map, make_counts, decompose, other):
    signal = make_map(data=make_counts((7, 13)))
    model = decompose(signal, 2, architecture="simplex", energy_shift=True).model

    dec = other.decomposition_ae(model=model, energy_shift=True, show_progressbar=False)

    assert dec.shift.data.shape == (7, 9)


@pytest.mark.parametrize("k", [2, None])
@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", None])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_device_that_is_not_there_is_refused_before_the_file_is_read(file, other, architecture, device, k):
    with pytest.raises(OptionError, match=rf"device={device!r} cannot be used here .*device='auto' or 'cpu'"):
        other.decomposition_ae(k, architecture=architecture, device=device, show_progressbar=False)

    assert not file.reads.any()


@pytest.mark.parametrize("own", ARCHITECTURES)
def test_a_device_that_is_not_there_is_refused_beside_a_model_too(fitted, file, other, own):
    with pytest.raises(OptionError, match="device='nonsense' cannot be used here"):
        other.decomposition_ae(model=fitted(own)[1].model, device="nonsense", show_progressbar=False)

    assert not file.reads.any()


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("pca", specml.DenseOptions(), r"architecture='pca', options=DenseOptions\(.* options=specml\.PCAOptions\("),
        ("dense", specml.SimplexOptions(), r"architecture='dense', .* needs options=specml\.DenseOptions\("),
        ("simplex", specml.PCAOptions(centre=True), r"architecture='simplex', .* options=specml\.SimplexOptions\("),
        ("dense", {"n_hidden": 9}, r"options=\{'n_hidden': 9\}\) needs options=specml\.DenseOptions\("),
        ("dense", specml.DenseOptions, r"needs options=specml\.DenseOptions\("),
    ],
)
def test_options_of_another_architecture_are_refused_before_the_file_is_read(
    file, other, architecture, options, message
):
    with pytest.raises(OptionError, match=message):
        other.decomposition_ae(2, architecture=architecture, options=options, show_progressbar=False)

    assert not file.reads.any()


@pytest.mark.parametrize("kind", [specml.DenseOptions, specml.SimplexOptions])
@pytest.mark.parametrize(
    "sizes", [{"n_hidden": 0}, {"n_hidden": 2.5}, {"n_hidden": "64"}, {"n_layers": 0}, {"n_layers": 10**6}], ids=str
)
def test_sizes_that_no_network_has_are_refused_at_once(kind, sizes):
    ((name, value),) = sizes.items()

    with pytest.raises(OptionError, match=rf"{kind.__name__}\({name}={value!r}\) must be a whole number from 1 to "):
        kind(**sizes)


def test_sizes_of_numpy_are_sizes_and_go_through_files(make_map, make_counts, tmp_path, decompose):
    signal = make_map(data=make_counts((7, 13)))
    dec = decompose(signal, 2, options=specml.DenseOptions(n_hidden=np.int64(9)))

    model = specml.load_model(dec.model.save(tmp_path / "nine"))

    assert model.model.options["n_hidden"] == 9
    np.testing.assert_array_equal(model.model.components(), dec.model.model.components())


def test_energy_shift_is_known_to_one_architecture_only_and_the_file_is_not_read_for_others(file, other):
    for architecture in ("pca", "dense"):
        with pytest.raises(
            OptionError, match=rf"energy_shift=True\) is not known to architecture='{architecture}', only to 'simplex'"
        ):
            other.decomposition_ae(2, architecture=architecture, energy_shift=True, show_progressbar=False)

    assert not file.reads.any()
