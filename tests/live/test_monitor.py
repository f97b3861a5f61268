"""The monitor on arrays: what it finds, in any order, and after it was saved."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from hyperspy_specml.exceptions import ModelFileError
from hyperspy_specml.live import Monitor, NewPhase, Setup, monitor_of, state_of

from .conftest import COUNTS, N_CHANNELS, RARE, SHAPE, line, scanned, spectra


def test_every_phase_is_told_of_once(monitor: Monitor) -> None:
    """But the one that the scan begins with."""
    assert [event.phase for event in monitor.heard] == [1, 2]  # type: ignore[attr-defined]
    assert monitor.heard[1].position[::-1] in RARE  # type: ignore[attr-defined]
    assert monitor.library is not None
    assert monitor.library.n_phases == 3


def test_a_phase_that_comes_late_is_told_of_with_its_line(counts: np.ndarray) -> None:
    """The last lines of the map hold what the first ones do not."""
    late = counts[np.r_[0:12, 15:20, 12:15]]
    monitor = scanned(late, np.arange(late[..., 0].size))
    event = monitor.heard[-1]  # type: ignore[attr-defined]
    assert isinstance(event, NewPhase)
    assert event.position[1] >= 17
    assert event.p_value < 1e-6
    assert abs(event.energy - 75) < 4


@pytest.mark.parametrize("seed", [0, 1])
def test_a_line_that_varies_within_a_phase_makes_no_phases_and_hides_none(seed: int) -> None:
    """As the carbon of a support film does, from pixel to pixel."""
    rng = np.random.default_rng(seed)
    one = np.maximum(spectra()[0] + rng.normal(0, 0.3, (*SHAPE, 1)) * 0.2 * line(55) / line(55).sum(), 0)
    one[17:19, 6:8] = spectra()[2]
    counts = rng.poisson(COUNTS * one).astype(np.uint16)
    monitor = scanned(counts, np.arange(counts[..., 0].size))
    (event,) = monitor.heard  # type: ignore[attr-defined]
    assert event.position in {(x, y) for x in (6, 7) for y in (17, 18)}
    assert abs(event.energy - 75) < 4


def test_labels_are_right(monitor: Monitor, labels: np.ndarray) -> None:
    classes, pixels = monitor.classes()
    assert (pixels == np.arange(labels.size)).all()
    assert adjusted_rand_score(labels.ravel(), classes.phase_probability.argmax(axis=0)) > 0.98


def test_one_phase_is_one_phase() -> None:
    counts = np.random.default_rng(7).poisson(2.0, (*SHAPE, N_CHANNELS)).astype(np.uint8)
    monitor = scanned(counts, np.arange(counts[..., 0].size))
    assert monitor.heard == []  # type: ignore[attr-defined]
    assert monitor.library is not None
    assert monitor.library.n_phases == 1


def test_sums_do_not_depend_on_order_and_size_of_blocks(monitor: Monitor, counts: np.ndarray) -> None:
    pixels = np.random.default_rng(8).permutation(counts[..., 0].size)
    other = scanned(counts, pixels, block=33)
    assert (other.moments.moments.products == monitor.moments.moments.products).all()
    assert (other.visits == 1).all()
    assert (other.intensity == counts.reshape(-1, N_CHANNELS).sum(axis=1)).all()
    assert other.kept is not None
    assert (other.kept.values == monitor.kept.values).all()


def test_the_end_does_not_depend_on_the_order(counts: np.ndarray, order: np.ndarray) -> None:
    one, other = scanned(counts, order), scanned(counts, np.arange(order.size), block=16)
    for each in (one, other):
        each.finish()
    a, b = (each.classes()[0].phase_probability for each in (one, other))
    assert a.shape == b.shape
    match = np.abs(a[:, None] - b[None]).max(axis=2).min(axis=1)
    assert match.max() < 1e-3


@pytest.mark.parametrize("cut", [100, 200])
def test_a_saved_monitor_goes_on(counts: np.ndarray, order: np.ndarray, monitor: Monitor, cut: int) -> None:
    """Before and after the first phases are learnt."""
    before = scanned(counts, order[:cut])
    plain, arrays = state_of(before)
    again = monitor_of(plain, arrays)
    events = []
    for start in range(cut, len(order), 20):
        some = order[start : start + 20]
        events += again.update(counts.reshape(-1, N_CHANNELS)[some], some)
    whole = monitor.heard  # type: ignore[attr-defined]
    first = before.heard  # type: ignore[attr-defined]
    assert [event.phase for event in first + events] == [event.phase for event in whole]
    assert (again.phase == monitor.phase).all()


def test_parts_that_do_not_fit_are_no_state(monitor: Monitor) -> None:
    plain, arrays = state_of(monitor)
    with pytest.raises(ModelFileError, match="visits"):
        monitor_of(plain, arrays | {"visits": np.zeros(3)})
    with pytest.raises(ModelFileError, match="no state"):
        monitor_of({}, {})


def test_spikes_are_no_phase(counts: np.ndarray, order: np.ndarray) -> None:
    spoilt = counts.copy()
    spoilt[3, 3, 60] += 500
    monitor = scanned(spoilt, order)
    assert not any(event.position == (3, 3) for event in monitor.heard)  # type: ignore[attr-defined]
    assert monitor.n_spikes >= 1


def test_spectra_that_are_not_finite_are_counted(counts: np.ndarray, order: np.ndarray) -> None:
    values = counts.astype(np.float32)
    values[5, 5, 7] = np.nan
    monitor = scanned(values, order)
    assert monitor.n_lost == 1
    assert monitor.visits.sum() == order.size - 1
    assert np.isnan(monitor.p_value[5 * SHAPE[1] + 5])


def test_leading_components_are_those_of_the_whole_map(monitor: Monitor, counts: np.ndarray) -> None:
    rows = counts.reshape(-1, N_CHANNELS).astype(float)
    weights = 1 / np.sqrt(np.maximum(rows.mean(axis=0), 1e-3 * rows.mean()))
    batch = np.linalg.svd(rows * weights, full_matrices=False)[2][:2].T
    cosine = np.linalg.svd(monitor.basis.vectors[:, :2].T @ batch, compute_uv=False).min()
    assert np.degrees(np.arccos(min(1.0, cosine))) < 2


def test_learning_beside_ends_with_the_same_phases(counts: np.ndarray, order: np.ndarray, monitor: Monitor) -> None:
    other = Monitor(Setup(SHAPE, N_CHANNELS, "grid", beside=True))
    for start in range(0, len(order), 20):
        some = order[start : start + 20]
        other.update(counts.reshape(-1, N_CHANNELS)[some], some)
    other.wait()
    assert other.library is not None
    assert monitor.library is not None
    assert other.library.n_phases == monitor.library.n_phases


def test_where_every_spectrum_is_another_the_phases_stay_few_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first lines each pixel has a line of its own; unlimited, each would become a phase."""
    monkeypatch.setattr("hyperspy_specml.live._monitor._MOST_PHASES", 6)
    n = SHAPE[0] * SHAPE[1]
    mean = np.repeat(COUNTS * spectra()[:1], n, axis=0)
    for pixel in range(n // 2, n):
        own = line(5 + pixel % (N_CHANNELS - 10))
        mean[pixel] = 0.5 * mean[pixel] + 0.5 * COUNTS * own / own.sum()
    counts = np.random.default_rng(0).poisson(mean).reshape(*SHAPE, -1).astype(np.uint16)
    monitor = scanned(counts, np.arange(n))
    assert monitor.full
    assert monitor.library is not None
    assert monitor.library.n_phases <= 12  # as many as held-out counts are asked about


def test_an_ordinary_scan_is_not_full(monitor: Monitor) -> None:
    assert not monitor.full
