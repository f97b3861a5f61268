"""Denoising on arrays alone: removed signal, restored models, candidates, fitted denoisers in files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import hyperspy_specml as specml
from hyperspy_specml.denoise import Asked, _candidates, apply_denoiser, denoise, fit_library
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.models import Parts, UnfilteredScores, parts_of
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import PoissonNoise
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.denoise import Denoising

QUICK = Run(specml.TrainConfig(max_steps=20, evaluate_every=10))
ONE_STEP = Run(specml.TrainConfig(max_steps=1))
SMALL = specml.DenoiseOptions(n_hidden=16, n_hidden_spatial=4)


def found(data: np.ndarray, run: Run = QUICK, **asked: Any) -> Denoising:
    return denoise(SpectrumStream(data), run, Asked(noise="poisson", options=SMALL, **asked))


def test_arrays_give_the_removed_signal_and_its_restored_model(counts_with_line: Any) -> None:
    data, pixels = counts_with_line
    plain = found(data, ONE_STEP, context="spectral", protect=False).denoised
    region = plain.removed[0]
    assert set(pixels) <= set(region.pixels)
    assert region.start <= 28 < region.stop
    assert (region.start, region.stop) == region.intervals[0] or any(
        a <= region.start and region.stop <= b for a, b in region.intervals
    )
    assert region.z > 10
    rows = data.reshape(-1, 31)[region.pixels].astype(float)
    residual = rows - plain.model.decode(plain.scores[region.pixels])
    assert region.excess == pytest.approx(residual[:, region.start : region.stop].sum(), rel=1e-4)

    restored = found(data, ONE_STEP, context="spectral").denoised  # the default
    assert [one.z for one in restored.removed] == [one.z for one in plain.removed]
    n = plain.scores.shape[1]
    np.testing.assert_allclose(restored.scores[:, :n], plain.scores, rtol=1e-4)  # the others keep their counts
    features = restored.model.shapes[len(plain.model.shapes) :]
    assert restored.scores.shape[1] == n + len(features)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    # The region gets the sum of its own residual back.
    given = restored.model.decode(restored.scores[region.pixels]) - plain.model.decode(plain.scores[region.pixels])
    near = slice(25, 31)
    np.testing.assert_allclose(given.sum(axis=0)[near], residual.sum(axis=0)[near], rtol=1e-3, atol=0.5)


def test_an_applied_denoiser_tells_what_it_does_not_know(smooth_counts: np.ndarray, counts_with_line: Any) -> None:
    fitted = found(smooth_counts, context="spatial")
    mean, data = smooth_counts.mean(axis=(0, 1)), counts_with_line[0]
    stream = SpectrumStream(data)
    known: dict[str, Any] = {"channels": np.ones(31, bool), "noise": PoissonNoise(), "mean": mean}
    applied = apply_denoiser(stream, fitted.denoiser, **known)
    assert set(counts_with_line[1]) <= set(applied.removed[0].pixels)
    assert applied.relative_intensity == pytest.approx(5, rel=0.03)
    masked = np.zeros((17, 19), bool)
    masked[11:15, 4:8] = True
    without = apply_denoiser(stream, fitted.denoiser, masked=masked, **known)
    assert not set(counts_with_line[1]) & {int(p) for one in without.removed for p in one.pixels}
    assert np.isnan(without.scores[masked.ravel()]).all()
    with pytest.raises(TooFewSpectraError, match="'empty': 323"):
        apply_denoiser(SpectrumStream(0 * data), fitted.denoiser, **known)


def test_a_new_kind_of_candidates_is_a_function_and_a_line(
    smooth_counts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toy that keeps one component more than PCA does, and one that is far better: it takes the truth."""

    def one_more(data: _candidates.CandidateData) -> list[_candidates.Entry]:
        k = data.plain.rank.chosen + 1
        fold = UnfilteredScores(data.plain.fold_basis.first(k))
        scores = data.plain.fold_scores[:, :k]
        whole = UnfilteredScores(data.plain.basis.first(k))
        return [_candidates.Entry("one more", data.plain, fold, lambda: scores, lambda: whole)]

    monkeypatch.setattr(_candidates, "KINDS", (_candidates.Kind("Toy", ("auto",), 1.0, one_more),))
    report = found(smooth_counts).report
    assert report.candidates[0].name == "one more"
    assert len(report.candidates) == 2
    assert report.candidates[0].difference > 0  # one component of noise more
    assert report.chosen == report.candidates[1].name
    assert len(found(smooth_counts, context="spatial").report.candidates) == 1


def test_settings_of_the_user_hold_as_they_stand(smooth_counts: np.ndarray) -> None:
    run = Run(specml.TrainConfig(max_steps=7, evaluate_every=3))
    for context in ("spatial", "spectral"):
        trained = [entry for entry in fitted_entries(smooth_counts, context, run) if entry.history.steps]
        assert [entry.history.steps for entry in trained] == [[0, 3, 6, 7]]
    library = np.random.default_rng(0).random((40, 12)) + 0.1
    fit = fit_library(library, (100, 1000), run, specml.LibraryOptions(n_hidden=5, n_layers=1))
    assert fit.history.steps == [0, 3, 6, 7]
    assert fit.denoiser.settings() == {"n_hidden": 5, "n_layers": 1}


def fitted_entries(data: np.ndarray, context: str, run: Run) -> list[_candidates.Entry]:
    from unittest import mock

    from hyperspy_specml.denoise import _run

    with mock.patch.object(_run, "_choose", wraps=_run._choose) as choose:
        denoise(SpectrumStream(data), run, Asked(context=context, noise="poisson", options=SMALL))
    return choose.call_args.args[2]


@pytest.mark.parametrize("what", ["unfiltered", "mixed filters", "spatial", "spectral", "library"])
def test_fitted_denoisers_come_back_from_their_parts(smooth_counts: np.ndarray, what: str) -> None:
    if what == "library":
        denoiser: Any = fit_library(np.random.default_rng(0).random((40, 12)) + 0.1, (100, 1000), QUICK).denoiser
    else:
        context = "spectral" if what in ("unfiltered", "spectral") else "spatial"
        entries = fitted_entries(smooth_counts, context, QUICK)
        word = "pca" if what == "unfiltered" else what
        denoiser = next(e for e in entries if word in e.name).on_all_counts()
    parts = parts_of(denoiser)
    again = parts.model()
    assert type(again) is type(denoiser)
    assert again.settings() == denoiser.settings()
    maps = np.random.default_rng(1).normal(size=(2, 7, 5, denoiser.n_components)).astype(np.float32)
    valid = np.random.default_rng(2).random((2, 7, 5)) > 0.2
    maps[~valid] = 0
    if what == "library":
        maps *= 0.01
    np.testing.assert_array_equal(again.denoise(maps, valid, 0.5), denoiser.denoise(maps, valid, 0.5))
    assert again.bytes_per_pixel() == denoiser.bytes_per_pixel() > 0
    rows = again.encode(np.ones((3, len(denoiser.basis.weights))))
    np.testing.assert_allclose(again.decode(rows), denoiser.basis.spectra(rows), rtol=1e-5, atol=1e-5)
    for name in parts.arrays:  # whatever is missing is an error, not a guess
        less = {n: a for n, a in parts.arrays.items() if n != name}
        with pytest.raises(ValueError, match=r"missing|Missing|fewer"):
            Parts(parts.settings, less).model()


def test_files_with_other_filters_or_impossible_numbers_are_refused(smooth_counts: np.ndarray) -> None:
    entries = fitted_entries(smooth_counts, "spatial", QUICK)
    parts = parts_of(entries[0].on_all_counts())
    for setting, value, words in (
        ("filters", ["unfiltered", "mean"], "filters"),
        ("n_scan_axes", 4, "n_scan_axes"),
        ("n_strong", 99, "n_strong"),
        ("n_hidden", 5, "size mismatch"),
    ):
        with pytest.raises(ValueError, match=words):
            Parts(parts.settings | {setting: value}, parts.arrays).model()
    noise = parts.arrays | {"noise": -parts.arrays["noise"]}
    with pytest.raises(ValueError, match="'noise' holds values that are not positive"):
        Parts(parts.settings, noise).model()


def test_everything_is_checked_before_the_file_is_read(
    make_map: Callable[..., BaseSignal], smooth_counts: np.ndarray, counted: type
) -> None:
    file = counted(smooth_counts)
    signal = make_map(data=file.dask((5, 6, 31)))
    for name, value, message in (
        ("context", "temporal", "'spatial'"),
        ("corruption", "poison", "Did you mean 'poisson'"),
        ("noise", "poissonian", "Did you mean 'poisson'"),
        ("protect", "no", "must be True or False"),
        ("protect", 2, "must be True or False"),
        ("options", specml.LibraryOptions(), r"needs options=specml\.DenoiseOptions"),
        ("options", {"n_hidden": 3}, r"needs options=specml\.DenoiseOptions"),
        ("config", {"max_steps": 3}, "must be a TrainConfig"),
        ("device", "nonsense", "device='nonsense' cannot be used"),
        ("random_state", -1, "0 or more"),
        ("pairs", (signal,), "two signals"),
    ):
        with pytest.raises((OptionError, ValueError), match=message):
            signal.denoise_dae(show_progressbar=False, **{name: value})
    assert file.reads.max() == 0


def test_options_that_cannot_be_are_refused() -> None:
    for kind, options in (
        (specml.DenoiseOptions, {"n_hidden": 0}),
        (specml.DenoiseOptions, {"n_layers": 1.5}),
        (specml.DenoiseOptions, {"centre": "no"}),
        (specml.DenoiseOptions, {"n_hidden_spatial": True}),
        (specml.LibraryOptions, {"n_hidden": -3}),
        (specml.LibraryOptions, {"n_layers": None}),
    ):
        with pytest.raises(OptionError, match=rf"{kind.__name__}\({next(iter(options))}=...\) must be"):
            kind(**options)
    library = specml.datasets.fe_l_library(40, n_channels=64)
    with pytest.raises(OptionError, match=r"needs options=specml\.LibraryOptions"):
        specml.train_denoiser(library, options=specml.DenoiseOptions(), show_progressbar=False)


def test_a_basis_about_the_mean_denoises_as_well(smooth_counts: np.ndarray) -> None:
    options = replace(SMALL, centre=True)
    asked = Asked(context="spectral", noise="poisson", options=options)
    fitted = denoise(SpectrumStream(smooth_counts), QUICK, asked)
    assert fitted.denoiser.basis.offset.any()
    decoded = fitted.denoised.model.decode(fitted.denoised.scores)
    np.testing.assert_allclose(decoded.mean(axis=0), smooth_counts.reshape(-1, 31).mean(axis=0), rtol=0.1, atol=0.1)


def test_the_global_random_state_is_left_alone(smooth_counts: np.ndarray) -> None:
    before = torch.get_rng_state()
    found(smooth_counts)
    assert torch.equal(torch.get_rng_state(), before)
