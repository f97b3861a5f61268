"""A model on a map whose energy axis is calibrated otherwise: ``model=..., align=True``."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.datasets import fe_cr_ni_map, fe_l_map, fe_l_spectra
from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.prepare import find_alignment
from hyperspy_specml.statistics import USED, PrincipalBasis, plan_resampling

E = 128
ENERGY = 690 + 51.2 / E * np.arange(E)


def fe_l(shift: float, *, seed: int) -> tuple:
    """Return a map without drift, moved by *shift* eV, and its clean spectra."""
    made = fe_l_map((14, 15), n_channels=E, dose=60, drift=False, random_state=seed)
    truth = {name: np.asarray(signal.data) for name, signal in made.truth.items()}
    clean = fe_l_spectra(truth["fe3_fraction"], truth["thickness"], shift, iron=truth["iron"], energy=ENERGY)
    clean *= 60 / clean.mean()
    return made.signal._deepcopy_with_new_data(np.random.default_rng(seed).poisson(clean).astype(np.uint16)), clean


@pytest.fixture(scope="module")
def model() -> specml.models.TrainedModel:
    return fe_l(0, seed=0)[0].decomposition_ae(3, architecture="pca", show_progressbar=False).model


def error(result, clean: np.ndarray) -> float:
    """Return the error of a reconstruction away from the ends, in units of the noise."""
    inner = slice(12, -12)
    return float(np.sqrt(np.mean((result.reconstruction.data - clean)[..., inner] ** 2 / clean[..., inner])))


def apply(signal, model, **more):
    return signal.decomposition_ae(model=model, show_progressbar=False, **more)


@pytest.mark.parametrize("shift", [2.0, -1.5])
def test_a_shifted_map_is_described_as_well_as_one_in_place(model, shift: float) -> None:
    in_place, moved = fe_l(0, seed=1), fe_l(shift, seed=1)
    aligned = apply(moved[0], model, align=True)
    assert error(aligned, moved[1]) < 1.25 * error(apply(in_place[0], model), in_place[1])
    assert error(aligned, moved[1]) < 0.5 * error(apply(moved[0], model), moved[1])
    found = float(aligned.report.alignment.split("by ")[1].split(" ")[0])
    assert found == pytest.approx(shift, abs=0.3)
    assert "beside a PCA of the same size fitted on it" in str(aligned.report)


def test_a_map_in_place_is_not_moved(model) -> None:
    signal, _ = fe_l(0, seed=2)
    aligned, plain = apply(signal, model, align=True), apply(signal, model)
    assert aligned.report.alignment.startswith("not moved")
    np.testing.assert_allclose(aligned.scores.data, plain.scores.data, rtol=1e-4, atol=1e-3)


def test_lazy_and_saved_models_are_aligned_alike(model, tmp_path) -> None:
    signal, _ = fe_l(1.5, seed=3)
    eager = apply(signal, model, align=True)
    path = model.save(tmp_path / "fe.specml")
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((5, 4, 50))
    np.testing.assert_array_equal(apply(lazy, path, align=True).scores.data, eager.scores.data)
    again = specml.load_model(eager.model.save(tmp_path / "moved.specml"))  # with what completes its scores
    np.testing.assert_array_equal(apply(signal, again).scores.data, eager.scores.data)


def test_a_map_of_something_else_is_told_from_one_that_fits(model, caplog) -> None:
    signal, clean = fe_l(0, seed=4)
    other = clean + 40 * np.exp(-0.5 * ((ENERGY - 730) / 2) ** 2) * np.linspace(0, 1, 15)[:, None]
    signal = signal._deepcopy_with_new_data(np.random.default_rng(0).poisson(other).astype(np.uint16))
    with caplog.at_level(logging.WARNING, "hyperspy_specml"):
        apply(signal, model, align=True)
    assert "describes this map worse than a PCA of the same size fitted on it" in caplog.text


def test_shifts_beyond_the_range_and_alignment_of_nothing_are_refused(model) -> None:
    with pytest.raises(OptionError, match="moves a trained model"):
        fe_l(0, seed=0)[0].decomposition_ae(3, align=True, show_progressbar=False)
    with pytest.raises(EnergyAxisMismatchError, match="lie at the end of the range"):
        apply(fe_l(4.5, seed=1)[0], model, align=True)


def test_a_planted_minimum_is_found_with_the_errors_of_its_curvature() -> None:
    weights = np.full(200, 0.5)  # the deviance of each of 200 spectra

    def deviances(shift: float, stretch: float) -> np.ndarray:
        return 3 + weights * (((shift - 0.7) / 0.4) ** 2 + ((stretch + 0.02) / 0.01) ** 2)

    found = find_alignment(deviances, reach=3, width=0.4)
    assert (found.shift, found.stretch) == (pytest.approx(0.7, abs=0.01), pytest.approx(-0.02, abs=1e-3))
    assert found.applied
    assert found.shift_error == pytest.approx(0.4 * np.sqrt(1 / weights.sum()), rel=0.05)
    assert found.stretch_error == pytest.approx(0.01 * np.sqrt(1 / weights.sum()), rel=0.05)


def test_scores_of_spectra_without_some_channels_are_completed() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(40.0)
    shapes = np.stack([np.ones(40), np.exp(-0.5 * ((x - 20) / 4) ** 2), np.sin(x / 9)], axis=1)
    basis = PrincipalBasis(np.ones(40), np.zeros(40), np.linalg.qr(shapes)[0], np.full(3, 1e6))
    cut = plan_resampling(x, np.full(40, USED), x[4:-2], partly=True)
    scores = rng.normal(size=(5, 3)).astype(np.float32)
    found = basis.resampled(cut).project(basis.spectra(scores)[:, 4:-2])
    np.testing.assert_allclose(found, scores, atol=1e-3)
    with pytest.raises(ValueError, match="needs all channels"):
        plan_resampling(x, np.full(40, USED), x[4:-2])


@pytest.fixture(scope="module")
def grains() -> tuple:
    """Return three phases of an alloy, the next map of them, and that with an energy axis that is 60 eV off."""
    first, second = (
        fe_cr_ni_map((24, 28), n_channels=256, dose=400, texture="grains", n_phases=3, random_state=seed)
        for seed in (0, 1)
    )
    wrong = second.signal.deepcopy()
    wrong.axes_manager.signal_axes[0].offset += 0.06  # 80 eV a channel
    return first.signal, second, wrong


def moved_by(report) -> float:
    return float(report.alignment.split("moved by ")[1].split(" ")[0])


def test_phases_are_recognised_on_an_axis_that_is_calibrated_otherwise(grains) -> None:
    first, second, wrong = grains
    known = first.phase_map(show_progressbar=False).model
    right = second.signal.phase_map(model=known, show_progressbar=False).labels.data
    assert (wrong.phase_map(model=known, show_progressbar=False).labels.data == -2).mean() > 0.9
    found = wrong.phase_map(model=known, align=True, show_progressbar=False)
    assert (found.labels.data == right).mean() > 0.97
    assert moved_by(found.report) == pytest.approx(0.06, abs=2e-3)
    assert found.report.description is None  # mixed pixels speak for PCA


def test_phases_in_latents_are_found_on_an_axis_that_is_calibrated_otherwise(grains) -> None:
    first, _, wrong = grains
    model = first.decomposition_ae(3, architecture="pca", show_progressbar=False).model
    found = wrong.phase_map(model=model, align=True, show_progressbar=False)
    assert moved_by(found.report) == pytest.approx(0.06, abs=2e-3)
    other = found.at_number(found.alternatives[0], show_progressbar=False)  # aligned already
    assert other.report.alignment == found.report.alignment


def test_ordinary_spectra_are_ordinary_on_an_axis_that_is_calibrated_otherwise(grains) -> None:
    first, _, wrong = grains
    model = first.anomaly_map(show_progressbar=False).model
    assert (wrong.anomaly_map(model=model, show_progressbar=False).p_value.data < 0.01).mean() > 0.5
    found = wrong.anomaly_map(model=model, align=True, show_progressbar=False)
    assert moved_by(found.report) == pytest.approx(0.06, abs=3e-3)
    assert found.regions == ()
    assert (found.p_value.data < 0.01).mean() < 0.06
    lazy = wrong.as_lazy().anomaly_map(model=model, align=True, show_progressbar=False)
    np.testing.assert_allclose(lazy.score.data, found.score.data, rtol=1e-5)


def test_a_denoiser_denoises_on_an_axis_that_is_calibrated_otherwise(grains) -> None:
    first, second, wrong = grains
    model, inner = specml.denoise_model(first.denoise_dae(show_progressbar=False)), slice(5, -5)

    def left(signal, **more) -> tuple:
        clean = signal.denoise_dae(model=model, show_progressbar=False, **more)
        difference = (clean.data - second.clean.data)[..., inner]
        return np.sqrt(np.mean(difference**2)), specml.denoise_report(clean)

    in_place, plain, (aligned, report) = left(second.signal)[0], left(wrong)[0], left(wrong, align=True)
    assert aligned < 1.25 * in_place < 0.2 * plain
    assert moved_by(report) == pytest.approx(0.06, abs=3e-3)


@pytest.mark.parametrize("method", ["anomaly_map", "denoise_dae", "phase_map"])
def test_without_a_model_there_is_nothing_to_align(method: str) -> None:
    with pytest.raises(OptionError, match=rf"{method}\(align=True\) moves a trained model"):
        getattr(fe_l(0, seed=0)[0], method)(align=True, show_progressbar=False)


def test_where_two_numbers_cannot_be_told_apart_the_error_of_each_alone_is_given() -> None:
    found = find_alignment(
        lambda shift, stretch: np.full(200, 3 + 0.5 * ((shift - 0.7) / 0.4) ** 2), reach=3, width=0.4
    )
    assert found.shift_error == pytest.approx(0.4 * np.sqrt(1 / 100), rel=0.05)
    assert found.stretch_error == np.inf
