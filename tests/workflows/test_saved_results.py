"""Results go through one file and come back; they are copied, and say why they are not pickled."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
import types

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.datasets import RarePhase, fe_cr_ni_map
from hyperspy_specml.exceptions import (
    DataRequiredError,
    ModelFileError,
    ModelFileExistsError,
    NotPicklableError,
    SpectraRequiredError,
)


def assert_same_signal(signal, other):
    assert type(signal) is type(other)
    assert signal.metadata.General.title == other.metadata.General.title
    described = [[axis.get_axis_dictionary() for axis in one.axes_manager._axes] for one in (signal, other)]
    assert described[0] == described[1]
    np.testing.assert_allclose(np.asarray(signal.data), np.asarray(other.data), rtol=1e-5)  # blocks round apart


def assert_same_decomposition(dec, again):
    for name in ("scores", "components", "reconstruction"):
        assert_same_signal(getattr(dec, name), getattr(again, name))
    assert dec.outputs.keys() == again.outputs.keys()
    for name, output in dec.outputs.items():
        assert_same_signal(output, again.outputs[name])
    assert repr(again.report) == str(dec.report)
    assert again.model.to_bytes() == dec.model.to_bytes()


@pytest.fixture(scope="module")
def found():
    """An anomaly map with a region of a rare element."""
    signal = fe_cr_ni_map((17, 20), n_channels=128, dose=400, rare_phase=RarePhase(9)).signal
    result = signal.anomaly_map(output_dimension=3, show_progressbar=False)
    assert result.regions
    return result


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated")  # zarr's, about what HyperSpy calls
@pytest.mark.parametrize(
    ("architecture", "n_navigation", "lazy", "suffix"),
    [
        ("pca", 1, False, ".hspy"),
        ("dense", 3, True, ".hspy"),
        ("simplex", 2, False, ".hspy"),
        ("pca", 2, True, ".zspy"),
    ],
)
def test_a_decomposition_comes_back_from_its_file(fitted, tmp_path, architecture, n_navigation, lazy, suffix):
    if suffix == ".zspy":
        pytest.importorskip("numcodecs")
    signal, dec = fitted(architecture, 3, n_navigation, lazy=lazy)
    path = dec.save(tmp_path / f"run{suffix}")

    again = specml.load_result(path)
    assert_same_decomposition(dec, again)
    assert (again.baseline is None) == (dec.baseline is None)
    if dec.baseline is not None:
        assert_same_decomposition(dec.baseline, again.baseline)
    with pytest.raises(DataRequiredError, match=r"residual needs the data.*load_result\(path, signal=s\)"):
        _ = again.residual
    assert_same_signal(specml.load_result(path, signal=signal).residual, dec.residual)


def test_hyperspy_opens_the_file_as_score_maps_with_all_else_in_their_metadata(fitted, tmp_path):
    _, dec = fitted("simplex", 3, 2)
    whole = hs.load(dec.save(tmp_path / "run"))
    assert_same_signal(whole, dec.scores)
    assert_same_signal(whole.metadata.Specml.result.components, dec.components)
    assert specml.provenance(whole) == specml.provenance(dec.scores)
    assert not dec.scores.metadata.has_item("Specml.result")


def test_an_anomaly_map_comes_back_from_its_file_and_finds_the_same_again(found, tmp_path):
    again = specml.load_result(found.save(tmp_path / "found"))
    for name in ("score", "p_value", "detections", "energy", "spectra", "residuals"):
        assert_same_signal(getattr(found, name), getattr(again, name))
    assert repr(again.regions) == repr(found.regions)
    assert again.regions[0].pixels == found.regions[0].pixels
    assert again.regions[0].candidates == found.regions[0].candidates
    assert again.spikes == found.spikes
    assert repr(again) == repr(found)
    assert again.model.to_bytes() == found.model.to_bytes()


def test_an_anomaly_map_without_a_region_comes_back(found, tmp_path):
    nothing = dataclasses.replace(found, regions=(), spectra=None, residuals=None)
    again = specml.load_result(nothing.save(tmp_path / "nothing"))
    assert (again.regions, again.spectra, again.residuals) == ((), None, None)


def test_files_that_are_there_or_hold_no_result_are_said(fitted, tmp_path):
    signal, dec = fitted("pca", 3, 2)
    path = dec.save(tmp_path / "run")
    assert path.name == "run.hspy"
    with pytest.raises(ModelFileExistsError, match=r"overwrite=True\) replaces it"):
        dec.save(path)
    before = path.stat().st_mtime_ns
    assert dec.save(path, overwrite=False) == path
    assert path.stat().st_mtime_ns == before
    assert dec.save(path, overwrite=True) == path
    with pytest.raises(ModelFileError, match=r"saved as \.hspy or \.zspy, not as '\.png'"):
        dec.save(tmp_path / "run.png")
    dec.scores.save(tmp_path / "scores.hspy")
    with pytest.raises(ModelFileError, match=r"holds <Signal2D.*but no result.*dec\.save\(path\)"):
        specml.load_result(tmp_path / "scores.hspy")
    with pytest.raises(ModelFileError, match=r"no \.hspy or \.zspy file.*load_model"):
        specml.load_result(dec.model.save(tmp_path / "model.specml"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        specml.load_result(tmp_path / "nowhere")
    with pytest.raises(SpectraRequiredError, match=r"of shape \(12, 17, 61\).*holds \(11, 17, 61\)"):
        specml.load_result(path, signal=signal.inav[:, :11])


def test_a_copy_is_apart_but_for_the_data_that_were_decomposed(fitted, found):
    _, dec = fitted("dense", 3, 2)
    again = copy.deepcopy(dec)
    assert_same_decomposition(dec, again)
    assert not np.shares_memory(again.scores.data, dec.scores.data)
    assert again._source.spectra.array is dec._source.spectra.array
    again.scores.data[:] = 0
    assert dec.scores.data.any()
    assert copy.copy(dec).scores is dec.scores
    assert repr(copy.deepcopy(found)) == repr(found)


def test_pickling_says_why_it_does_not_work_and_what_does(fitted, found):
    _, dec = fitted("pca", 3, 2)
    for result in (dec, found):
        with pytest.raises(NotPicklableError, match=r"cannot be pickled. Save it, result\.save.*load_result") as caught:
            pickle.dumps(result)
        assert isinstance(caught.value, TypeError)
    assert pickle.loads(pickle.dumps(dec.model)).to_bytes() == dec.model.to_bytes()


def test_tables_need_pandas_and_hold_a_region_or_a_candidate_a_row(fitted, found, monkeypatch):
    _, dec = fitted("dense", 3, 2)
    monkeypatch.setitem(sys.modules, "pandas", None)
    for result, name in ((found, "found"), (dec.report, "report")):
        with pytest.raises(ImportError, match=rf"{name}\.to_dataframe\(\) needs pandas.*pip install pandas"):
            result.to_dataframe()
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=list))
    rows = found.to_dataframe()
    assert [row["n_pixels"] for row in rows] == [region.n_pixels for region in found.regions]
    assert rows[0]["candidates"].split(", ") == [str(one) for one in found.regions[0].candidates]
    assert "pixels" not in rows[0]
    rows = dec.report.to_dataframe()
    assert [(row["name"], row["score"]) for row in rows] == [(one.name, one.score) for one in dec.report.candidates]
    assert [row["name"] for row in rows if row["chosen"]] == [dec.report.chosen]


@pytest.mark.parametrize("k", [1, 3])
def test_the_navigator_of_score_maps_is_the_spread_of_each(fitted, k):
    _, dec = fitted("pca", k, 2)
    if k == 1:
        assert dec.scores.navigator is None
    else:
        np.testing.assert_allclose(dec.scores.navigator.data, dec.scores.data.std(axis=(1, 2)), rtol=1e-5)


def test_a_lazy_reconstruction_of_a_file_computes_nothing_before_it_is_asked(fitted, tmp_path, no_compute):
    _, dec = fitted("dense", 3, 3, lazy=True)
    found = specml.load_result(dec.save(tmp_path / "run")).reconstruction
    assert found._lazy
    assert isinstance(found.data, da.Array)
    assert found.data.shape == dec.reconstruction.data.shape
