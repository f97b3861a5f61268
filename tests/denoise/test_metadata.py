"""A denoised signal keeps its report and its model in its metadata, wherever it goes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import ModelFileError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hyperspy.signal import BaseSignal

pytestmark = pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.RemovedSignalWarning")


@pytest.fixture(scope="module")
def denoised(make_map: Callable[..., BaseSignal], counts_with_line: Any, quick: dict[str, Any]) -> BaseSignal:
    """A denoised map from which a line was removed."""
    options = quick | {"config": specml.TrainConfig(max_steps=1)}
    clean = make_map(data=counts_with_line[0]).denoise_dae(context="spectral", **options)
    assert specml.denoise_report(clean).removed
    return clean


def assert_kept(signal: BaseSignal, denoised: BaseSignal) -> None:
    own, report = specml.denoise_report(denoised), specml.denoise_report(signal)
    assert report.to_dict() == own.to_dict()
    assert str(report) == str(own)
    assert specml.denoise_model(signal).to_bytes() == specml.denoise_model(denoised).to_bytes()


def test_copies_and_parts_keep_report_and_model(denoised: BaseSignal) -> None:
    for signal in (
        denoised.deepcopy(), copy.copy(denoised), denoised.inav[3:9, 2],
        denoised.isig[4:20], denoised.as_lazy(), denoised.sum(axis=0), denoised.transpose(),
    ):  # fmt: skip
        assert_kept(signal, denoised)


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated")  # zarr's, about what HyperSpy calls
@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
@pytest.mark.parametrize("lazy", [False, True])
def test_files_keep_report_and_model(denoised: BaseSignal, tmp_path: Path, suffix: str, lazy: bool) -> None:
    if suffix == "zspy":
        pytest.importorskip("numcodecs")
    denoised.save(tmp_path / f"clean.{suffix}")
    assert_kept(hs.load(tmp_path / f"clean.{suffix}", lazy=lazy), denoised)


def test_a_file_holds_many_removed_pixels(denoised: BaseSignal, tmp_path: Path) -> None:
    """Attributes of HDF5 hold 64 kB of text at most."""
    from dataclasses import replace

    from hyperspy_specml.signals import stamp

    report, signal = specml.denoise_report(denoised), denoised.deepcopy()
    many = replace(report, removed=(replace(report.removed[0], pixels=tuple(range(30_000))),), shape=(100, 300))
    stamp(signal, many.to_dict())
    signal.save(tmp_path / "clean.hspy")
    assert specml.denoise_report(hs.load(tmp_path / "clean.hspy")).removed_map().sum() == 30_000


def test_lazy_signals_keep_the_model_of_eager_ones(
    make_map: Callable[..., BaseSignal], smooth_counts: np.ndarray, quick: dict[str, Any]
) -> None:
    lazy = make_map(data=da.from_array(smooth_counts, chunks=(5, 6, 31))).denoise_dae(context="spatial", **quick)
    eager = make_map(data=smooth_counts).denoise_dae(context="spatial", **quick)
    assert lazy._lazy
    one, other = (specml.denoise_model(signal).model for signal in (lazy, eager))
    assert one.settings() == other.settings()
    for name, values in one.arrays().items():
        np.testing.assert_allclose(values, other.arrays()[name], rtol=1e-3, atol=1e-3)


def test_metadata_print_in_few_lines_and_hold_nothing_that_is_hidden(denoised: BaseSignal) -> None:
    text, html = str(denoised.metadata.Specml), denoised.metadata.Specml._repr_html_()
    assert len(text.splitlines()) < 10
    assert max(map(len, text.splitlines())) < 250
    assert len(html) < 20_000
    assert denoised.metadata.Specml.model.dtype == np.uint8
    assert denoised.metadata.Specml.model.nbytes < 200_000
    assert not [name for name in vars(denoised) if "specml" in name.lower()]


def test_a_model_of_the_metadata_denoises_as_its_file_does(
    denoised: BaseSignal, make_map: Callable[..., BaseSignal], smooth_counts: np.ndarray, tmp_path: Path
) -> None:
    path = specml.denoise_model(denoised.inav[:2]).save(tmp_path / "steel")
    assert path.read_bytes() == denoised.metadata.Specml.model.tobytes()
    signal, quiet = make_map(data=smooth_counts), {"show_progressbar": False}
    by_file = signal.denoise_dae(model=path, **quiet)
    by_metadata = signal.denoise_dae(model=specml.denoise_model(denoised), **quiet)
    np.testing.assert_array_equal(by_file.data, by_metadata.data)
    again = specml.denoise_model(by_metadata)  # the model of a map that it was not trained on: the same one
    assert again.to_bytes() == specml.denoise_model(denoised).to_bytes()


def test_what_is_no_denoised_signal_or_lost_its_model_is_told_what_to_do(
    denoised: BaseSignal, make_map: Callable[..., BaseSignal]
) -> None:
    raw = make_map()
    pca = raw.decomposition_ae(2, architecture="pca", show_progressbar=False).reconstruction
    for other in (raw, pca, "clean.hspy", None):
        for function in (specml.denoise_report, specml.denoise_model):
            with pytest.raises(OptionError, match=rf"{function.__name__}.*pass what s\.denoise_dae\(\) returned"):
                function(other)
    clean = denoised.deepcopy()
    del clean.metadata.Specml.model
    assert specml.denoise_report(clean).removed
    with pytest.raises(OptionError, match=r"metadata\.Specml\.model was deleted.*load_model"):
        specml.denoise_model(clean)
    clean = denoised.deepcopy()
    damaged = clean.metadata.Specml.model.copy()
    damaged[-1] ^= 1
    clean.metadata.Specml.model = damaged
    with pytest.raises(ModelFileError, match=r"metadata\.Specml\.model.*damaged"):
        specml.denoise_model(clean)
