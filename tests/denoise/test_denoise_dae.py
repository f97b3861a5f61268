from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import MaskError, OptionError, RemovedSignalWarning, TooFewSpectraError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hyperspy.signal import BaseSignal

pytestmark = pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.RemovedSignalWarning")
QUICK = {
    "config": specml.TrainConfig(max_steps=40, evaluate_every=20),
    "options": specml.DenoiseOptions(n_hidden=16, n_hidden_spatial=4),
}
SCANS = {1: (71,), 2: (12, 17), 3: (3, 8, 10)}
N_CHANNELS = 31


def truth(scan: tuple[int, ...]) -> np.ndarray:
    """Two spectra, mixed smoothly."""
    mixing = np.ones(scan)
    for axis, n in enumerate(scan):
        phase = np.linspace(0, 2.5, n).reshape([-1 if a == axis else 1 for a in range(len(scan))])
        mixing = mixing * (0.5 + 0.5 * np.sin(phase))
    channel = np.arange(N_CHANNELS)
    spectra = [np.exp(-((channel - centre) ** 2) / 18) + 0.1 for centre in (9, 20)]
    return mixing[..., None] * spectra[0] + (1 - mixing[..., None]) * spectra[1]


def counts(scan: tuple[int, ...] = SCANS[2], dose: float = 6.0) -> np.ndarray:
    return np.random.default_rng(0).poisson(dose * truth(scan)).astype(np.uint8)


def denoise(signal: BaseSignal, **options: Any) -> BaseSignal:
    return signal.denoise_dae(**QUICK | {"show_progressbar": False, "noise": "poisson"} | options)


def error(estimate: BaseSignal, scan: tuple[int, ...], dose: float = 6.0) -> float:
    return float(np.sqrt(np.mean((estimate.data - dose * truth(scan)) ** 2)))


@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_a_smooth_map_is_denoised_better_than_pca_does_and_keeps_its_axes(
    make_map: Callable[..., BaseSignal], n_navigation: int
) -> None:
    scan = SCANS[n_navigation]
    signal = make_map(data=counts(scan))
    before = signal.data.copy()
    clean = denoise(signal, context="spatial")
    pca = signal.decomposition_ae(2, architecture="pca", noise="poisson", show_progressbar=False)
    assert error(clean, scan) < 0.8 * error(pca.reconstruction, scan)
    assert type(clean) is type(signal)
    assert clean.axes_manager.as_dictionary() == signal.axes_manager.as_dictionary()
    assert clean.metadata.General.title == "steel denoised"
    np.testing.assert_array_equal(signal.data, before)


def test_lazy_maps_in_any_chunks_give_the_denoised_map_of_eager_ones(
    make_map: Callable[..., BaseSignal], no_compute: None
) -> None:
    import dask

    data = counts()
    with dask.config.set(scheduler="synchronous"):
        eager = denoise(make_map(data=data))
        cleans = [denoise(make_map(data=da.from_array(data, chunks=chunks))) for chunks in (5, (12, 4, 7), (1, 17, 31))]
    for clean in cleans:
        assert clean._lazy
        with dask.config.set(scheduler="synchronous"):
            np.testing.assert_allclose(clean.data.compute(), eager.data, rtol=2e-4, atol=1e-3)


def test_the_graph_reads_no_spectrum_again(make_map: Callable[..., BaseSignal], counted: type) -> None:
    file = counted(counts())
    clean = denoise(make_map(data=file.dask((5, 6, 31))), context="spatial")
    reads = file.reads.max()
    clean.compute()
    assert reads == 3
    assert file.reads.max() == reads


@pytest.mark.parametrize("scan", [(7, 5), (1, 9), (9, 1), (4,)])
def test_maps_smaller_than_what_filters_see_are_denoised(
    make_map: Callable[..., BaseSignal], scan: tuple[int, ...]
) -> None:
    data = np.random.default_rng(1).poisson(4, (*scan, 11)).astype(np.uint8)
    clean = denoise(make_map(data=data))
    assert clean.data.shape == data.shape
    assert np.isfinite(clean.data).all()


def test_masked_pixels_are_nan_and_do_not_reach_into_their_neighbours(make_map: Callable[..., BaseSignal]) -> None:
    data = counts()
    mask = np.zeros(data.shape[:-1], bool)
    mask[4:7, 5:9] = True
    signal_mask = np.arange(N_CHANNELS) > 27
    spoilt = data.copy()
    spoilt[mask] = 255
    clean, other = (denoise(make_map(data=d), navigation_mask=mask, signal_mask=signal_mask) for d in (data, spoilt))
    np.testing.assert_array_equal(clean.data, other.data)
    assert np.isnan(clean.data[mask]).all()
    assert np.isnan(clean.data[..., 28:]).all()
    assert np.isfinite(clean.data[~mask][:, :28]).all()


def test_empty_spectra_are_zero_and_spectra_that_are_not_finite_are_nan(make_map: Callable[..., BaseSignal]) -> None:
    data = counts().astype(float) / 4
    data[3, 4], data[5, 6, 7] = 0, np.nan
    clean = denoise(make_map(data=data), context="spatial", noise="gaussian")
    assert (clean.data[3, 4] == 0).all()
    assert np.isnan(clean.data[5, 6]).all()
    assert np.isnan(clean.data).any(axis=-1).sum() == 1


def test_the_report_survives_a_file_and_says_what_was_chosen(
    make_map: Callable[..., BaseSignal], tmp_path: Path
) -> None:
    clean = denoise(make_map(data=counts()))
    report = specml.denoise_report(clean)
    clean.save(tmp_path / "clean.hspy")
    again = specml.denoise_report(hs.load(tmp_path / "clean.hspy"))
    assert again.to_dict() == report.to_dict()
    assert str(again) == str(report)
    names = [candidate.name for candidate in report.candidates]
    assert names[-1].startswith("pca (")
    assert {name.split(" (")[0] for name in names} == {"pca", "spectral network"}  # too small for the other one
    best = min(report.candidates, key=lambda candidate: candidate.validation_score)
    assert report.chosen == best.name
    assert report.chosen in report._repr_html_()
    assert report.noise_reduction > 3
    assert report.plot().axes[0].get_title() == report.verdict()


def test_the_spatial_network_is_among_the_candidates_of_larger_maps(make_map: Callable[..., BaseSignal]) -> None:
    report = specml.denoise_report(denoise(make_map(data=counts((17, 19))), context="spatial"))
    assert report.candidates[0].name.startswith("spatial network")
    assert not any(candidate.name.startswith("spectral") for candidate in report.candidates)


def test_no_counts_but_those_of_a_block_are_in_memory_while_the_map_is_projected(
    make_map: Callable[..., BaseSignal], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperspy_specml.denoise import _run as _denoise

    held: list[weakref.ref[np.ndarray]] = []
    alive: list[bool] = []
    prepare, apply = _denoise.prepare, _denoise.denoise_own_map

    def prepared(*args: Any, **options: Any) -> Any:
        found = prepare(*args, **options)
        held.extend(weakref.ref(a) for a in (found.summary.sample, *found.folds.parts, found.folds.validation))
        return found

    def project(*args: Any) -> Any:
        alive.extend(reference() is not None for reference in held)
        return apply(*args)

    monkeypatch.setattr(_denoise, "prepare", prepared)
    monkeypatch.setattr(_denoise, "denoise_own_map", project)
    report = specml.denoise_report(denoise(make_map(data=counts())))

    assert len(alive) == 6
    assert not any(alive)
    assert report.n_sampled == 12 * 17


def test_the_error_that_is_left_is_estimated_without_the_truth() -> None:
    simulated = specml.datasets.fe_cr_ni_map((48, 40), n_channels=128, dose=400)
    clean = denoise(simulated.signal, context="spatial")
    report = specml.denoise_report(clean)
    mean = simulated.clean.data.mean(axis=(0, 1))
    left = ((clean.data - simulated.clean.data) ** 2 / mean).sum(axis=-1).mean()
    assert abs(report.error - left) < 4 * report.error_standard_error + 0.3 * left


def test_what_is_not_understood_is_answered_with_the_call_that_is(make_map: Callable[..., BaseSignal]) -> None:
    signal = make_map(data=counts())
    with pytest.raises(OptionError, match="context='temporal' is unknown; use one of 'auto'"):
        denoise(signal, context="temporal")
    with pytest.raises(OptionError, match="Did you mean 'poisson'"):
        denoise(signal, noise="poissonian")
    with pytest.raises(MaskError, match="shape"):
        denoise(signal, navigation_mask=np.zeros((17, 12), bool))
    with pytest.raises(TooFewSpectraError, match="4 spectra"):
        denoise(make_map(data=counts((3,))))
    with pytest.raises(TooFewSpectraError, match=r"'not finite': 204.*np\.nan_to_num"):
        denoise(make_map(data=np.full((*SCANS[2], N_CHANNELS), np.nan)))
    for other in (signal, "clean.hspy"):
        with pytest.raises(OptionError, match=r"pass what s\.denoise_dae\(\) returned"):
            specml.denoise_report(other)


def with_spot(dose: float = 30.0) -> tuple[np.ndarray, np.ndarray, float]:
    """Counts with a line in four pixels, their mask, and the line's intensity in all of them."""
    mean = dose * truth((25, 27))
    mask = np.zeros(mean.shape[:-1], bool)
    mask[12:14, 5:7] = True
    line = 40 * np.exp(-((np.arange(N_CHANNELS) - 28) ** 2) / 2)
    mean[mask] += line
    return np.random.default_rng(2).poisson(mean).astype(np.uint16), mask, 4 * line[26:].sum()


def test_a_rare_line_that_was_removed_is_named_and_restored(make_map: Callable[..., BaseSignal]) -> None:
    data, mask, intensity = with_spot()
    signal = make_map(data=data)
    options = {"context": "spectral", "config": specml.TrainConfig(max_steps=1)}
    with pytest.warns(RemovedSignalWarning, match="^Leave protect=False out to keep it"):
        clean = denoise(signal, protect=False, **options)
    protected = denoise(signal, **options)
    report = specml.denoise_report(protected)
    assert (report.removed_map()[mask] > 0).all()
    assert report.removed[0].energy.endswith("eV")
    assert report.restored
    background = 30 * truth((25, 27))[mask]
    kept = (protected.data[mask] - background)[:, 26:].sum() / intensity
    assert 0.9 < kept < 1.15
    far = np.ones(mask.shape, bool)
    far[9:17, 2:10] = False
    # What is restored is in the totals, too: the rest is scaled so that the map keeps its counts.
    np.testing.assert_allclose(protected.data[far], clean.data[far], rtol=1e-3)


def test_noise_alone_shows_no_removed_signal(make_map: Callable[..., BaseSignal]) -> None:
    flat = np.random.default_rng(3).poisson(0.3, (31, 29, 23)).astype(np.uint8)
    assert specml.denoise_report(denoise(make_map(data=flat))).removed == ()


def test_no_window_beyond_the_threshold_is_passed_over() -> None:
    """The plain deviate sorts out what need not be looked at: it must never be too small for that."""
    from hyperspy_specml.denoise import _removed

    variance = np.geomspace(1e-3, 1e3, 61)[:, None]
    residual = np.concatenate([-np.geomspace(1e-3, 1e3, 60), np.geomspace(1e-3, 1e3, 60)])
    for gain in (0.0, 0.4, 1.0):
        z = _removed._deviate(residual, variance, gain)
        for threshold in (0.5, 3.0, 6.0):
            assert _removed._may_exceed(residual, variance, threshold, gain)[np.abs(z) > threshold].all()


def test_a_denoised_map_below_zero_removes_no_counts() -> None:
    """Seen on maps of few counts: nothing was counted, nothing is expected, and the denoised map has -0.4."""
    from hyperspy_specml.denoise import find_removed, overlapping_windows

    windows = overlapping_windows(20, 3.0)
    n = len(windows.starts)
    clean = np.full((9, 11, n), 0.2)
    clean[3:6, 4:8] = -0.9

    def find(residual: np.ndarray) -> tuple:
        def sums(pixels, some):
            return tuple(v.reshape(-1, n)[pixels, some] for v in (residual, np.maximum(clean, 0), clean))

        return find_removed(sums, np.ones((9, 11), bool), windows, gain=1.0, progress=specml.Progress())

    assert find(0 - clean) == ()
    (region,) = find(np.where(clean < 0, 12.0, 0) - clean)
    assert set(np.unravel_index(region.pixels, (9, 11))[0]) >= {3, 4, 5}
