"""Calls that cannot be answered say what came and what repairs it, and leave the signal as it was."""

from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.exceptions import NavigationDimensionError, SignalDimensionError

from hyperspy_specml.exceptions import (
    DataTypeError,
    MaskError,
    NavigationRequiredError,
    NegativeCountsError,
    NotCountsError,
    OptionError,
    SpectraRequiredError,
    TooFewSpectraError,
)

WHOLE = "must be a whole number, 1 or more"

OPTIONS = [
    ({"output_dimension": 0}, f"output_dimension=0 {WHOLE}"),
    ({"output_dimension": -2}, f"output_dimension=-2 {WHOLE}"),
    ({"output_dimension": 2.5}, rf"output_dimension=2\.5 {WHOLE}"),
    ({"output_dimension": "many"}, f"output_dimension='many' {WHOLE}"),
    ({"random_state": None}, "random_state=None must be a whole number, 0 or more"),
    ({"random_state": -1}, "random_state=-1 must be a whole number, 0 or more"),
    ({"architecture": "densse"}, r"architecture='densse' is unknown.*Did you mean 'dense'\?"),
    ({"architecture": None}, r"architecture=None is unknown; use one of 'dense', 'conv', 'vae', 'simplex', 'pca'"),
    ({"noise": "poison"}, r"noise='poison' is unknown.*Did you mean 'poisson'\?"),
    ({"device": "cuda:99"}, r"device='cuda:99' cannot be used.*device='auto' or 'cpu'"),
    ({"device": "gpu"}, r"device='gpu' cannot be used.*device='auto' or 'cpu'"),
    ({"config": {"max_steps": 5}}, r"config=\{'max_steps': 5\}\) must be a TrainConfig.*TrainConfig\("),
    ({"model": 3}, r"model=\.\.\.\) needs a trained model, result\.model or the path of its file, not int"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[str(options) for options, _ in OPTIONS])
def test_an_impossible_option_is_refused_with_what_is_possible(
    make_map, make_counts, decompose, unchanged, options, message
):
    signal = unchanged(make_map(data=make_counts()))

    with pytest.raises(OptionError, match=message) as caught:
        decompose(signal, **{"k": options.pop("output_dimension", 3), **options})

    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("options", [{"architecture": "densse"}, {"noise": "poison"}, {"device": "gpu"}])
def test_a_misspelt_option_is_found_before_the_file_is_read(make_map, make_counts, decompose, no_compute, options):
    signal = make_map(data=da.from_array(make_counts(), chunks=5))

    with pytest.raises(OptionError):
        decompose(signal, **options)


@pytest.mark.parametrize("k", [np.int64(2), np.uint8(2)])
def test_whole_numbers_of_numpy_are_numbers(make_map, make_counts, decompose, k):
    dec = decompose(make_map(data=make_counts()), k, architecture="pca", random_state=np.int32(3))

    assert type(dec.report.n_components) is int
    assert dec.report.random_state == 3


SIGNALS = {
    "complex": (hs.signals.ComplexSignal1D(np.ones((7, 5, 11), "c8")), DataTypeError, TypeError, r"s\.real"),
    "one spectrum": (hs.signals.Signal1D(np.ones(11)), NavigationRequiredError, NavigationDimensionError, r"hs\.stack"),
    "two signal axes": (
        hs.signals.Signal1D(np.ones((7, 5, 11))).transpose(signal_axes=2),
        SpectraRequiredError,
        SignalDimensionError,
        r"s\.transpose",
    ),
}


@pytest.mark.parametrize("case", SIGNALS)
def test_what_is_no_map_of_spectra_is_refused_as_hyperspys_own_error(decompose, unchanged, case):
    from hyperspy_specml.methods import decomposition_ae

    signal, error, known, message = SIGNALS[case]

    with pytest.raises(error, match=rf"decomposition_ae\(\).*{message}") as caught:
        decomposition_ae(unchanged(signal), 2)

    assert isinstance(caught.value, known)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"navigation_mask": np.zeros((17, 12), bool)}, r"\(17, 12\), but \(12, 17\).*pass mask\.T"),
        ({"navigation_mask": np.zeros((12, 16), bool)}, r"\(12, 16\), but \(12, 17\)"),
        ({"navigation_mask": np.ones((12, 17), bool)}, r"masks everything.*~mask"),
        ({"navigation_mask": np.ones((12, 17))}, "needs booleans.*float64"),
        ({"signal_mask": np.zeros(60, bool)}, r"\(60,\), but \(61,\)"),
        ({"signal_mask": np.ones(61, bool)}, "masks everything"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_both_shapes(
    make_map, make_counts, decompose, unchanged, masks, message
):
    with pytest.raises(MaskError, match=message):
        decompose(unchanged(make_map(data=make_counts())), **masks)


@pytest.mark.parametrize("architecture", ["pca", "dense"])
@pytest.mark.parametrize(("shape", "k"), [((3, 61), 1), ((4, 61), 4), ((2, 3, 61), 8), ((12, 17, 2), 2)])
def test_too_few_spectra_or_channels_are_counted_and_named(make_map, decompose, unchanged, architecture, shape, k):
    data = np.random.default_rng(0).poisson(9.0, shape)

    with pytest.raises(TooFewSpectraError, match=rf"{k} components? needs? at least.*stack more") as caught:
        decompose(unchanged(make_map(data=data)), k, architecture=architecture)

    assert isinstance(caught.value, ValueError)
    assert ("output_dimension=1" in str(caught.value)) == (k > 1)  # fewer than one are none


@pytest.mark.parametrize("fill", [0, np.nan, np.inf])
def test_a_map_without_one_usable_spectrum_is_refused(make_map, decompose, unchanged, fill):
    with pytest.raises(TooFewSpectraError, match=r"there are 0"):
        decompose(unchanged(make_map(data=np.full((12, 17, 61), fill, np.float32))))


def test_masks_that_leave_too_little_are_counted(make_map, make_counts, decompose):
    mask = np.ones((12, 17), bool)
    mask[0, :3] = False

    with pytest.raises(TooFewSpectraError, match=r"there are 3 and 61.*'masked': 201.*mask less"):
        decompose(make_map(data=make_counts()), navigation_mask=mask)
    with pytest.raises(TooFewSpectraError, match=r"there are 204 and 1.*'masked': 60"):
        decompose(make_map(data=make_counts()), 1, signal_mask=np.arange(61) != 15)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (-30.0, NegativeCountsError, r"smallest value is -30\. Use noise='auto'"),
        (0.5, NotCountsError, "needs whole numbers.*noise='auto'"),
    ],
)
def test_poisson_noise_of_values_that_are_no_counts_is_refused(
    make_map, make_counts, decompose, unchanged, change, error, message
):
    data = make_counts() + 0.0
    data[0, 0] = 0
    signal = unchanged(make_map(data=data + change))

    with pytest.raises(error, match=message):
        decompose(signal, noise="poisson")

    assert decompose(signal, architecture="pca", noise="auto").report.noise_model["name"] != "poisson"
