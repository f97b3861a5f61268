"""Full-size outputs: scores are decoded into whole spectra, block by block; outputs of models become maps."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.signals import mark_empty, provenance, spectra_of
from hyperspy_specml.signals._source import Decoder, Source, _navigation_chunks
from hyperspy_specml.statistics import EMPTY, MASKED, NOT_FINITE, SATURATED, USED

STATE = np.array([USED, MASKED, USED, EMPTY, USED, NOT_FINITE, SATURATED, USED])
COMPONENTS = np.random.default_rng(2).random((3, 4)).astype(np.float32)


class Linear:
    """Three components of four channels."""

    def decode(self, scores):
        return scores @ COMPONENTS + np.float32(1)


DECODER = Decoder(Linear(), STATE)


def test_unused_channels_come_back_as_nan_and_dead_ones_as_zero():
    scores = np.random.default_rng(3).random((7, 5, 3), np.float32)

    spectra = DECODER(scores)

    assert spectra.shape == (7, 5, 8)
    assert spectra.dtype == np.float32
    np.testing.assert_allclose(spectra[..., STATE == USED], scores @ COMPONENTS + 1, rtol=1e-6)
    assert np.isnan(spectra[..., [1, 5, 6]]).all()
    assert not spectra[..., 3].any()


def test_an_empty_spectrum_stays_empty_also_where_the_model_has_an_offset():
    scores = np.array([[0, 0, 0], [np.nan] * 3, [0, 0, 1], [0, 0, 0]], np.float32)

    marked = mark_empty(scores, np.array([True, False, False, False]))
    empty, masked, _, mean = DECODER(marked)[:, STATE == USED]

    assert not empty.any()
    assert np.isnan(masked).all()
    np.testing.assert_array_equal(mean, 1)  # scores of 0 are those of the mean spectrum, not of an empty one


@pytest.mark.parametrize("dtype", ["u1", "i8", "f2", "f8", ">f4"])
def test_a_residual_is_single_precision_and_changes_no_input(dtype):
    scores = np.random.default_rng(4).random((5, 3), np.float32)
    values = np.arange(40).reshape(5, 8).astype(dtype)
    values.flags.writeable = scores.flags.writeable = False

    residual = DECODER(scores, values)

    assert residual.dtype == np.float32
    np.testing.assert_allclose(residual, values - DECODER(scores), rtol=1e-6)


@pytest.mark.parametrize("chunks", [((3, 4), (5,)), ((7,), (1, 1, 3)), ((1,) * 7, (5,))])
@pytest.mark.parametrize("n_rows", [1, 2, 6, 100])
def test_chunks_are_cut_until_they_fit_and_never_merged(chunks, n_rows):
    cut = _navigation_chunks(chunks, n_rows)

    for before, after in zip(chunks, cut, strict=True):
        assert set(np.cumsum(before)) <= set(np.cumsum(after))
        assert 0 not in after
    assert max(cut[0]) * max(cut[1]) <= n_rows


def test_a_source_keeps_no_copy_of_the_data(make_map):
    signal = make_map()
    spectra = spectra_of(signal, method="test")

    source = Source.of(signal, spectra)

    assert source.title == "steel"
    assert type(source.template) is type(signal)
    assert source.template.data.strides == (0, 0, 0)
    assert np.shares_memory(source.spectra.array, signal.data)


def test_an_input_without_a_title_is_called_by_its_class(make_map):
    signal = make_map()
    signal.metadata.General.title = ""

    assert Source.of(signal, spectra_of(signal, method="test")).title == "EELSSpectrum"


def test_a_graph_keeps_the_model_and_the_scores_out_of_its_names(make_map, no_compute):
    signal = make_map(data=da.zeros((7, 5, 8), chunks=(2, 5, 3), dtype=np.uint8))
    source = Source.of(signal, spectra_of(signal, method="test"))

    residual = source.full_size(DECODER, np.ones((35, 3), np.float32), "left", {"from": "here"}, residual=True)

    assert residual._lazy
    assert residual.metadata.General.title == "steel left"
    assert residual.data.chunks == ((2, 2, 2, 1), (5,), (8,))
    assert provenance(residual) == {"from": "here"}


def test_outputs_in_channels_become_units_of_the_energy_axis_and_come_back(make_map):
    source = Source.of(make_map(), spectra_of(make_map(), method="test"))  # 0.25 eV per channel
    columns = np.random.default_rng(5).random((35, 5), np.float32)
    units = {"intensity": "signal", "shift": "channels", "ratio": ""}

    scores = source.score_maps(columns[:, :2], {})
    outputs = source.output_maps(units, columns[:, 2:], {"from": "here"})

    assert list(outputs) == list(units)
    assert outputs["shift"].axes_manager.navigation_shape == (5, 7)
    assert provenance(outputs["shift"]) == {"from": "here"}
    np.testing.assert_array_equal(outputs["shift"].data.reshape(-1), columns[:, 3] * 0.25)
    np.testing.assert_array_equal(outputs["ratio"].data.reshape(-1), columns[:, 4])
    np.testing.assert_array_equal(source.columns(scores, outputs, units).reshape(35, 5), columns)
