"""Denoisers that were trained before: on another map, on simulated spectra; and what they were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import (
    EnergyAxisMismatchError,
    ModelFileError,
    ModelFileExistsError,
    NegativeCountsError,
    NotCountsError,
    OptionError,
    PairsError,
    SpectraRequiredError,
    TooFewSpectraError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models import TrainedModel

pytestmark = pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.RemovedSignalWarning")
QUICK = {
    "config": specml.TrainConfig(max_steps=40, evaluate_every=20),
    "options": specml.DenoiseOptions(n_hidden=16, n_hidden_spatial=4),
}
SCAN = (17, 19)
N_CHANNELS = 31


def truth(scan: tuple[int, ...] = SCAN, *, n_channels: int = N_CHANNELS) -> np.ndarray:
    """Two peaks that mix smoothly."""
    mixing = 0.5 + 0.5 * np.sin(np.arange(np.prod(scan)) / 29).reshape(scan)[..., None]
    channel = np.arange(n_channels)
    one, other = (np.exp(-((channel - centre) ** 2) / 18) + 0.1 for centre in (9, 20))
    return mixing * one + (1 - mixing) * other


def counts(dose: float = 6.0, *, scan: tuple[int, ...] = SCAN, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(dose * truth(scan)).astype(np.uint16)


def denoise(signal: BaseSignal, **options: Any) -> BaseSignal:
    return signal.denoise_dae(**QUICK | {"show_progressbar": False} | options)


def apply(signal: BaseSignal, model: Any, **options: Any) -> BaseSignal:
    return signal.denoise_dae(model=model, show_progressbar=False, **options)


def error(clean: BaseSignal, dose: float = 6.0) -> float:
    return float(np.sqrt(np.mean((clean.data / dose - truth(clean.data.shape[:-1])) ** 2)))


KINDS = {  # the candidates of a short training, by what makes one of them win
    "spectral": {"context": "spectral"},
    "spatial": {"context": "spatial"},
    "auto": {},
}
_TRAINED: dict[str, tuple[BaseSignal, TrainedModel]] = {}


@pytest.fixture(params=KINDS)
def trained(request: pytest.FixtureRequest, make_map: Callable[..., BaseSignal]) -> Any:
    """A denoised map and what denoised it."""
    kind = request.param
    if kind not in _TRAINED:
        clean = denoise(make_map(data=counts()), noise="poisson", **KINDS[kind])
        _TRAINED[kind] = clean, specml.denoise_model(clean)
    return _TRAINED[kind]


def test_a_model_does_to_its_own_map_what_it_did(make_map: Callable[..., BaseSignal], trained: Any) -> None:
    clean, model = trained
    again = apply(make_map(data=counts()), model)
    np.testing.assert_allclose(again.data, clean.data, rtol=2e-3, atol=2e-3)
    report = specml.denoise_report(again)
    assert report.trained_on == "steel"
    assert report.relative_intensity == pytest.approx(1, abs=0.01)
    assert report.candidates == specml.denoise_report(clean).candidates
    assert report.line_width == pytest.approx(specml.denoise_report(clean).line_width, rel=0.3)
    assert "steel" in str(report)


def test_a_model_denoises_the_next_map_at_another_dose(make_map: Callable[..., BaseSignal], trained: Any) -> None:
    data = counts(24, seed=1)
    clean = apply(make_map(data=data), trained[1])
    raw = np.sqrt(np.mean((data / 24 - truth()) ** 2))
    assert error(clean, 24) < 0.6 * raw
    assert specml.denoise_report(clean).relative_intensity == pytest.approx(4, rel=0.05)
    assert clean.data.mean() == pytest.approx(data.mean(), rel=0.02)


def test_a_model_survives_a_file_to_the_last_bit(
    make_map: Callable[..., BaseSignal], trained: Any, tmp_path: Path
) -> None:
    signal, model = make_map(data=counts(seed=2)), trained[1]
    path = model.save(tmp_path / "steel")
    assert path.suffix == ".specml"
    loaded = specml.load_model(path)
    np.testing.assert_array_equal(apply(signal, path).data, apply(signal, model).data)
    assert loaded.report.to_dict() == model.report.to_dict()
    assert loaded.report.step_scores == model.report.step_scores
    assert repr(loaded) == repr(model)
    with pytest.raises(ModelFileExistsError, match="overwrite=True"):
        model.save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        apply(signal, path)


@pytest.mark.parametrize("scan", [(1, 9), (23,), (2, 5, 8)])
def test_a_model_of_an_image_denoises_maps_of_any_shape(
    make_map: Callable[..., BaseSignal], trained: Any, scan: tuple[int, ...]
) -> None:
    clean = apply(make_map(data=counts(scan=scan, seed=3)), trained[1])
    assert clean.data.shape == (*scan, N_CHANNELS)
    assert np.isfinite(clean.data).all()


def test_a_model_gives_lazy_maps_in_any_chunks_what_it_gives_eager_ones(
    make_map: Callable[..., BaseSignal], trained: Any
) -> None:
    data = counts(seed=4)
    eager = apply(make_map(data=data), trained[1])
    for chunks in (5, (17, 4, 7)):
        lazy = apply(make_map(data=da.from_array(data, chunks=chunks)), trained[1])
        assert lazy._lazy
        np.testing.assert_allclose(lazy.data.compute(), eager.data, rtol=2e-4, atol=1e-3)


def test_masked_and_bad_spectra_are_nan_and_those_without_counts_are_not(
    make_map: Callable[..., BaseSignal], trained: Any
) -> None:
    data = counts(seed=5).astype(np.float32)
    data[3, 4], data[5, 6, 7] = 0, np.nan
    mask = np.zeros(SCAN, bool)
    mask[8:11, 2:5] = True
    clean = apply(make_map(data=data), trained[1], navigation_mask=mask)
    nan = mask.copy()
    nan[5, 6] = True
    np.testing.assert_array_equal(np.isnan(clean.data), np.broadcast_to(nan[..., None], data.shape))
    assert specml.denoise_report(clean).used["pixels"] == {"used": 313, "masked": 9, "not finite": 1}


def test_a_model_of_another_axis_is_resampled_or_refused(make_map: Callable[..., BaseSignal], trained: Any) -> None:
    model = trained[1]
    energy = {"name": "Energy loss", "units": "keV", "scale": 0.25e-3, "offset": 0.7}  # the same in keV
    same = apply(make_map(data=counts(seed=6), energy=energy), model)
    np.testing.assert_array_equal(same.data, apply(make_map(data=counts(seed=6)), model).data)
    moved = apply(make_map(data=counts(seed=6), energy=energy | {"offset": 0.7 + 0.1e-3}), model)
    assert specml.denoise_report(moved).resampled_from == "31 channels from 700 to 707.5 eV"
    with pytest.raises(EnergyAxisMismatchError, match=r"denoise_dae\(model=...\): trained on 31 channels"):
        apply(make_map(data=counts(seed=6), energy=energy | {"offset": 0.5}), model)


def test_what_is_no_denoiser_is_refused_with_the_call_that_is(
    make_map: Callable[..., BaseSignal], trained: Any, tmp_path: Path
) -> None:
    signal, model = make_map(data=counts()), trained[1]
    pca = signal.decomposition_ae(2, architecture="pca", show_progressbar=False).model
    with pytest.raises(OptionError, match=r"decomposition_ae\(model=...\)\.reconstruction"):
        apply(signal, pca)
    with pytest.raises(OptionError, match=r"s\.denoise_dae\(model=...\)"):
        signal.decomposition_ae(model=model)
    for name, value in {
        "context": "spatial", "corruption": "mask", "noise": "gaussian", "pairs": (signal, signal),
        "signal_mask": np.arange(N_CHANNELS) > 20, "options": specml.DenoiseOptions(), "device": "cpu",
        "random_state": 1,
    }.items():  # fmt: skip
        with pytest.raises(OptionError, match=rf"denoise_dae\({name}=..., model=.*Leave {name} out"):
            apply(signal, model, **{name: value})
    with pytest.raises(OptionError, match=r"config=TrainConfig\(max_steps\), model=.*Leave config out"):
        apply(signal, model, config=specml.TrainConfig(max_steps=3))
    with pytest.raises(OptionError, match="must be True or False"):
        apply(signal, model, protect="no")
    with pytest.raises(TooFewSpectraError, match="no spectrum"):
        apply(make_map(data=np.full((3, 4, N_CHANNELS), np.nan)), model)
    with pytest.raises(TooFewSpectraError, match="'empty': 12"):
        apply(make_map(data=np.zeros((3, 4, N_CHANNELS))), model)
    with pytest.raises(NegativeCountsError, match="trained on counts"):
        apply(make_map(data=-counts().astype(float)), model)
    with pytest.raises(ModelFileError, match="this is a folder"):
        apply(signal, tmp_path)
    with pytest.raises(FileNotFoundError):
        apply(signal, tmp_path / "nowhere.specml")


def test_what_another_map_holds_and_the_model_does_not_know_is_named(
    make_map: Callable[..., BaseSignal], trained: Any
) -> None:
    data = counts(30, seed=7)
    data[8:10, 8:10, 26:30] += 40
    report = specml.denoise_report(apply(make_map(data=data), trained[1]))
    assert (report.removed_map()[8:10, 8:10] > 0).all()
    protected = apply(make_map(data=data), trained[1], protect=True)
    assert protected.data[8:10, 8:10, 26:30].mean() > 35


@pytest.mark.parametrize("corruption", ["poisson", "gaussian", "mask"])
@pytest.mark.parametrize("context", ["spectral", "spatial"])
def test_networks_learn_from_every_corruption(
    make_map: Callable[..., BaseSignal], corruption: str, context: str
) -> None:
    clean = denoise(make_map(data=counts()), corruption=corruption, context=context, noise="poisson")
    report = specml.denoise_report(clean)
    assert report.corruption == corruption
    assert report.candidates[0].name.startswith(f"{context} network")
    assert np.isfinite([candidate.score for candidate in report.candidates]).all()
    assert error(clean) < np.sqrt(np.mean((counts() / 6 - truth()) ** 2))


def test_pairs_score_what_was_learnt_of_one_record_on_the_other(make_map: Callable[..., BaseSignal]) -> None:
    odd, even = counts(3, seed=8), counts(3, seed=9)
    data = odd + even
    signal, pairs = make_map(data=data), (make_map(data=odd), make_map(data=even))
    before = [pair.data.copy() for pair in pairs]
    clean = denoise(signal, pairs=pairs, noise="poisson")
    report = specml.denoise_report(clean)
    assert report.hold_out == "pairs"
    assert error(clean) < 0.5 * np.sqrt(np.mean((data / 6 - truth()) ** 2))
    lazy = [make_map(data=da.from_array(d, chunks=(5, 6, 7))) for d in (data, odd, even)]
    again = denoise(lazy[0], pairs=lazy[1:], noise="poisson")
    np.testing.assert_allclose(again.data.compute(), clean.data, rtol=2e-4, atol=1e-3)
    for pair, values in zip(pairs, before, strict=True):
        np.testing.assert_array_equal(pair.data, values)


def test_pairs_keep_noise_that_no_model_knows_out_of_the_choice(make_map: Callable[..., BaseSignal]) -> None:
    """Noise that neighbouring pixels share looks like signal to every split; not to another record."""
    from scipy.ndimage import gaussian_filter

    def record(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        common = gaussian_filter(rng.standard_normal((*SCAN, N_CHANNELS)), (1.5, 1.5, 3))
        return 50 * truth() + 30 * common + rng.standard_normal(common.shape)

    odd, even = record(1), record(2)
    clean = denoise(make_map(data=odd + even), pairs=(make_map(data=odd), make_map(data=even)), noise="gaussian")
    report = specml.denoise_report(clean)
    left = np.mean((clean.data - 100 * truth()) ** 2) / report.noise_model["readout"] ** 2 * N_CHANNELS
    assert report.error > 0.2 * left  # splits of one record would say that next to nothing is left


def test_pairs_that_do_not_fit_are_refused(make_map: Callable[..., BaseSignal]) -> None:
    signal, other = make_map(data=counts()), make_map(data=counts(seed=1))
    with pytest.raises(PairsError, match="hold the same counts"):
        denoise(signal, pairs=(other, make_map(data=counts(seed=1))))
    with pytest.raises(OptionError, match=r"corruption='mask', pairs=...\).*Leave one of the two out"):
        denoise(signal, pairs=(signal, other), corruption="mask")
    with pytest.raises(SpectraRequiredError, match=r"denoise_dae\(pairs=...\): denoise_dae\(\) needs spectra"):
        denoise(signal, pairs=(other.transpose(signal_axes=2), other))
    for pairs in (signal, (signal,), (signal, other, other), "odd"):
        with pytest.raises(PairsError, match="two signals of the same area"):
            denoise(signal, pairs=pairs)
    with pytest.raises(PairsError, match=r"\(17, 18, 31\).*\(17, 19, 31\)"):
        denoise(signal, pairs=(other, make_map(data=counts()[:, :18])))
    energy = {"name": "Energy loss", "units": "eV", "scale": 0.5, "offset": 700.0}
    with pytest.raises(PairsError, match="700 to 715 eV"):
        denoise(signal, pairs=(other, make_map(data=counts(), energy=energy)))
    with pytest.raises(PairsError, match="not ndarray"):
        denoise(signal, pairs=(other, counts()))
    with pytest.raises(PairsError, match="Both need counts"):
        denoise(signal, pairs=(other, make_map(data=0 * counts())), noise="poisson")
    bad = counts().astype(float)
    bad[2, 3, 4] = np.nan
    with pytest.raises(PairsError, match="NaN or infinite"):
        denoise(signal, pairs=(other, make_map(data=bad)))
    with pytest.raises(OptionError, match="Did you mean 'poisson'"):
        denoise(signal, corruption="poison")
    with pytest.raises(NotCountsError, match="corruption='gaussian'"):
        denoise(make_map(data=counts() - 0.5), corruption="poisson", noise="gaussian")


@pytest.fixture(scope="module")
def library_model() -> TrainedModel:
    library = specml.datasets.fe_l_library(1500, n_channels=64)
    config = specml.TrainConfig(max_steps=400, evaluate_every=100)
    return specml.train_denoiser(library, doses=(5, 500), config=config, show_progressbar=False)


def test_a_library_teaches_more_than_the_best_linear_denoiser_knows(
    library_model: TrainedModel, tmp_path: Path
) -> None:
    network, linear, pca = library_model.report.candidates
    assert network.score < 0.9 * linear.score < 0.9 * pca.score
    assert library_model.report.chosen == "library network"
    simulated = specml.datasets.fe_l_map((15, 16), n_channels=64, dose=20, random_state=3)
    clean = apply(simulated.signal, library_model)
    truth = simulated.clean.data
    raw, left = (np.sqrt(np.mean((s.data - truth) ** 2)) for s in (simulated.signal, clean))
    assert left < 0.35 * raw
    assert specml.denoise_report(clean).trained_on == "Library of Fe-L2,3 spectra"
    path = library_model.save(tmp_path / "iron")
    np.testing.assert_array_equal(apply(simulated.signal, path).data, clean.data)


def test_a_library_denoiser_is_told_the_dose_and_keeps_totals(library_model: TrainedModel) -> None:
    errors = []
    for dose in (5, 50, 500):
        simulated = specml.datasets.fe_l_map((15, 16), n_channels=64, dose=dose, random_state=4)
        clean = apply(simulated.signal, library_model)
        errors.append(np.sqrt(np.mean((clean.data / dose - simulated.clean.data / dose) ** 2)))
        sums = simulated.signal.data.sum(axis=-1)
        np.testing.assert_allclose(clean.data.sum(axis=-1), sums, atol=6 * np.sqrt(sums.max()))
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]


def test_bad_libraries_are_refused() -> None:
    library = specml.datasets.fe_l_library(40, n_channels=64)
    for doses in ((0, 5), (5, 2), 3, ("a", "b"), (1, np.inf)):
        with pytest.raises(OptionError, match="smallest and the largest"):
            specml.train_denoiser(library, doses=doses)
    with pytest.raises(TooFewSpectraError, match="fe_l_library"):
        specml.train_denoiser(library.inav[:9], show_progressbar=False)
    with pytest.raises(NegativeCountsError, match="negative or not finite"):
        specml.train_denoiser(library - 5)
    with pytest.raises(OptionError, match="swap the two"):
        specml.datasets.fe_l_library(40, shift=(1, -1))
    assert library.data.mean() == pytest.approx(1)
