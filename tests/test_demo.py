"""The command line does the main job on its own map and on files, and its errors are one message."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.__main__ import main
from hyperspy_specml.datasets import fe_cr_ni_map, fe_l_map
from hyperspy_specml.tour import FILES, line_that_varies

if TYPE_CHECKING:
    from pathlib import Path

    from hyperspy.signal import BaseSignal

RESULTS = {"scores.hspy", "components.hspy", "reconstruction.hspy", "result.png", "report.png"}
PCA_RESULTS = {"pca_scores.hspy", "pca_components.hspy", "pca.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def signal() -> BaseSignal:
    return fe_cr_ni_map((7, 11), n_channels=64, dose=500).signal


@pytest.fixture
def file(signal: BaseSignal, tmp_path: Path) -> Path:
    path = tmp_path / "map [1].hspy"  # brackets are a pattern to hs.load, if it gets text
    signal.save(path)
    return path


def pca(*arguments: object) -> int:
    return main([str(argument) for argument in ("--architecture", "pca", *arguments)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def calibration(signal: BaseSignal) -> list[tuple[object, ...]]:
    axes = (*signal.axes_manager.navigation_axes, *signal.axes_manager.signal_axes)
    return [(str(axis.name), str(axis.units), axis.scale, axis.offset, axis.size) for axis in axes]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the message of a run that has to fail."""
    assert pca(*arguments) == 1
    return capsys.readouterr().err


def test_without_a_file_it_shows_the_truth_beside_what_it_finds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hyperspy_specml", "--shape", "13", "17"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "qtagg"},  # Qt is not there: no display is needed
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # neither warnings nor logs: the console is the report
    folder = tmp_path / "specml_output"
    assert names(folder) == RESULTS | PCA_RESULTS | {"truth.png"}
    for said in ("held-out deviance", "dense (4)", "pca (4)", "fe3_fraction", "specml_output", *names(folder)):
        assert said in done.stdout
    scores = hs.load(folder / "scores.hspy")
    assert calibration(scores)[0][-1] == 4
    assert calibration(scores)[1:] == calibration(fe_l_map((13, 17)).signal)[:2]


@pytest.mark.parametrize("lazy", [(), ("--lazy",)], ids=["eager", "lazy"])
def test_saved_results_reopen_with_axes_units_and_class(
    file: Path, folder: Path, signal: BaseSignal, lazy: tuple[str, ...]
) -> None:
    assert pca(file, "--output-dimension", 2, "--output", folder, *lazy) == 0

    assert names(folder) == RESULTS
    scores, components, reconstruction = (
        hs.load(folder / f"{name}.hspy") for name in ("scores", "components", "reconstruction")
    )
    nav, sig = calibration(signal)[:2], calibration(signal)[2:]
    assert calibration(scores)[1:] == nav
    assert calibration(components)[1:] == sig
    assert calibration(reconstruction) == nav + sig
    assert type(components) is type(reconstruction) is type(signal)
    assert specml.provenance(scores)["architecture"] == "pca"
    expected = signal.decomposition_ae(2, architecture="pca", show_progressbar=False)
    np.testing.assert_allclose(scores.data, expected.scores.data, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(reconstruction.data, expected.reconstruction.data, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("few_drawn_pixels", "brief_training")
def test_all_methods_are_shown_on_one_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--all", "--shape", "17", "19", "--architecture", "pca", "--output", str(folder)]) == 0

    assert names(folder) == set(FILES)
    said, page = capsys.readouterr().out, (folder / "report.html").read_text(encoding="utf-8")
    for title in ("Decomposition", "Denoising", "Anomalies", "Phases"):
        assert f"{title}\n---" in said
        assert f"<h2>{title}</h2>" in page
    assert all(f"src='{name}'" in page for name in FILES if name.endswith(".png"))
    assert hs.load(folder / "denoised.hspy").axes_manager.navigation_shape == (19, 17)
    assert specml.load_result(folder / "anomalies.hspy").regions[0].candidates[0].element == "Nb"
    assert len(specml.load_result(folder / "phases.hspy").shares) >= 2


@pytest.mark.usefixtures("few_drawn_pixels", "brief_training")
def test_a_failure_leaves_the_last_page_and_a_large_denoised_map_is_saved_on_request_only(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.__main__._SMALL", 0)
    how = ("--all", "--output", folder)
    assert pca(file, *how) == 0
    assert names(folder) == set(FILES) - {"denoised.hspy"}

    assert pca(file, *how, "--output-dimension", 0) == 1
    assert names(folder) == set(FILES) - {"denoised.hspy"}


def test_the_line_that_varies_most_is_found_and_named() -> None:
    s = fe_cr_ni_map((9, 10), n_channels=512, dose=3000, n_phases=2).signal
    s.set_elements(["Fe", "Cr"])
    dec = s.decomposition_ae(2, architecture="pca", show_progressbar=False)

    channels, name = line_that_varies(s, dec)

    assert name in ("counts, Fe Ka", "counts, Cr Ka")
    energies = s.axes_manager.signal_axes[0].axis[channels]
    assert min(abs(energies.mean() - known) for known in (6.404, 5.415)) < 0.05
    assert 0.05 < energies[-1] - energies[0] < 0.3


def test_phases_are_found_and_saved_as_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = np.eye(2)[np.broadcast_to(np.arange(20) > 8, (14, 20)).astype(int)]
    lines = np.exp(-0.5 * ((np.arange(64) - np.array([[20], [44]])) / 3) ** 2) + 0.02
    counts = np.random.default_rng(0).poisson(5 * shares @ lines).astype(np.uint16)
    hs.signals.Signal1D(counts).save(tmp_path / "map.hspy")
    found = tmp_path / "found"
    assert main([str(tmp_path / "map.hspy"), "--phases", "--output", str(found)]) == 0
    assert names(found) == {"phases.png", "report.png", "phases.hspy"}
    assert "2 phases" in capsys.readouterr().out
    assert [row.pixels for row in specml.load_result(found / "phases.hspy").shares] == [154, 126]


def test_what_phases_would_ignore_is_refused(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--phases"], [str(file), "--phases", "--reconstruction", "--architecture", "pca"]):
        assert main([*arguments, "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "--phases needs a file" in said
    assert "--architecture, --reconstruction beside --phases" in said


def test_a_run_replaces_all_files_of_the_run_before_and_no_others(file: Path, folder: Path) -> None:
    assert pca("--shape", 7, 11, "--output", folder) == 0
    assert "truth.png" in names(folder)
    (folder / "notes.txt").touch()

    assert pca(file, "--output", folder) == 0

    assert names(folder) == RESULTS | {"notes.txt"}


def test_a_large_reconstruction_is_saved_on_request_only(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperspy_specml.__main__._SMALL", 7 * 11 * 64 * 4 - 1)
    assert pca(file, "--output", folder) == 0
    assert names(folder) == RESULTS - {"reconstruction.hspy"}
    assert pca(file, "--output", folder, "--reconstruction", "--lazy") == 0
    assert names(folder) == RESULTS


def test_options_of_an_architecture_are_given_by_name(file: Path, folder: Path, signal: BaseSignal) -> None:
    assert pca(file, "--output", folder, "--output-dimension", 2, "--option", "centre=yes") == 0

    scores = hs.load(folder / "scores.hspy").data
    np.testing.assert_allclose(scores.mean(axis=(1, 2)), 0, atol=1e-3 * scores.std())  # about the mean spectrum


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--option", "center=yes"), "--option='center' is unknown; use one of 'centre'. Did you mean 'centre'?"),
        (("--option", "centre=perhaps"), "--option centre=perhaps: centre needs bool, e.g. centre=False."),
        (("--option", "centre"), "--option centre: centre needs bool"),
        (("--architecture", "dense", "--option", "n_hidden=wide"), "n_hidden needs int, e.g. n_hidden=64."),
        (("--architecture", "dense", "--option", "n_hidden=0"), "DenseOptions(n_hidden=0) must be a whole number"),
    ],
    ids=str,
)
def test_an_impossible_option_is_one_message(
    file: Path, folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, file, "--output", folder, *arguments)
    assert not any(folder.iterdir())


@pytest.fixture
def several(signal: BaseSignal, tmp_path: Path) -> Path:
    """Save a file that holds an image, a small and a large map."""
    path = tmp_path / "several.hspy"
    parts = {"a image": signal.sum(-1).T, "b small": signal.inav[:5], "c large": signal}
    with h5py.File(path, "w") as whole:
        for title, part in parts.items():
            part.metadata.General.title = title
            part.save(tmp_path / "part.hspy", overwrite=True)
            with h5py.File(tmp_path / "part.hspy") as one:
                whole.attrs.update(one.attrs)
                (name,) = one["Experiments"]
                one.copy(f"Experiments/{name}", whole.require_group("Experiments"), name=title)
    return path


@pytest.mark.parametrize(("asked", "taken"), [((), 2), (("--signal", 1), 1), (("--signal", "b small"), 1)], ids=str)
def test_of_several_signals_the_largest_map_is_taken_or_the_one_asked_for(
    several: Path, folder: Path, capsys: pytest.CaptureFixture[str], asked: tuple[object, ...], taken: int
) -> None:
    assert pca(several, "--output", folder, *asked) == 0
    assert f"Taken: {taken} " in capsys.readouterr().out
    assert hs.load(folder / "scores.hspy").axes_manager.signal_shape == ((11, 7), (5, 7))[taken == 1]


def test_an_unknown_signal_is_answered_with_the_list(
    several: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, several, "--output", folder, "--signal", 3)
    assert "--signal 3 is neither a title nor a number" in message
    assert "  1  <EDSTEMSpectrum, title: b small" in message


def test_an_image_is_refused_with_what_a_map_of_spectra_is(
    signal: BaseSignal, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.sum(-1).T.save(tmp_path / "image.hspy")
    message = refusal(capsys, tmp_path / "image.hspy", "--output", folder)
    assert "one signal axis (energy) and one or more scan axes" in message
    assert "<Signal2D" in message or "<BaseSignal" in message


def test_a_missing_file_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file" in refusal(capsys, tmp_path / "nothing.dm4", "--output", folder)


# imageio, which HyperSpy tries last, leaves a file open that it cannot read
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", ["damaged.hspy", "foreign.xyz", "text.dm4"])
def test_a_file_that_no_reader_understands_is_one_message(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"not a spectrum image" * 9)
    message = refusal(capsys, tmp_path / name, "--output", folder)
    assert f"{name} (" in message
    assert "Traceback" not in message
    gc.collect()  # here, where its warning is ignored, and not in the middle of another test


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ImportError("sparse is needed"), r"pip install 'hyperspy_specml[formats]'"),
        (NotImplementedError("not lazily"), "Leave out --lazy"),
        (MemoryError("Unable to allocate 2 TiB"), "add --lazy"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_readers_raise_is_answered_with_the_repair(
    error: Exception, advice: str, file: Path, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(hs, "load", fail)
    message = refusal(capsys, file, "--output", folder, "--lazy")
    assert advice in message
    assert str(error) in message


def test_a_run_does_not_replace_its_own_input(file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pca(file, "--output", folder) == 0
    message = refusal(capsys, folder / "reconstruction.hspy", "--output", folder)
    assert "would replace its own input" in message


def test_a_run_that_fails_leaves_the_files_of_the_last_one(
    file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pca(file, "--output", folder) == 0
    refusal(capsys, "nothing.hspy", "--output", folder)
    assert names(folder) == RESULTS


def test_an_output_that_is_a_file_is_refused_before_anything_is_computed(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot be a folder" in refusal(capsys, file, "--output", file)


def test_an_impossible_number_of_components_is_one_message(
    file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "output_dimension" in refusal(capsys, file, "--output", folder, "--output-dimension", 0)


def test_a_misspelt_option_exits_as_command_lines_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--architecture", "convolutional"])
    said = capsys.readouterr().err
    assert "invalid choice: 'convolutional'" in said
    assert all(name in said for name in ("dense", "simplex", "pca"))


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:Loading old file version")
@pytest.mark.parametrize(
    ("name", "lazy"),
    [("espm/88_ES-LP_G8_selection2_cropped2.hspy", ()), ("pangroup/Example_BTO_deleted.dm4", ("--lazy",))],
)
def test_measured_maps_keep_their_axes(data_folder: Path, name: str, lazy: tuple[str, ...], folder: Path) -> None:
    assert pca(data_folder / name, "--output-dimension", 3, "--output", folder, *lazy) == 0
    signals = hs.load(data_folder / name, lazy=True)
    signal = signals if not isinstance(signals, list) else max(signals, key=lambda s: s.data.size)
    assert calibration(hs.load(folder / "reconstruction.hspy", lazy=True)) == calibration(signal)
