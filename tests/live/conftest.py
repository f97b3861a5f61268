"""A map of two phases with a third one in nine pixels, and monitors that have seen it."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.live import Monitor, Setup, scan_order

SHAPE, N_CHANNELS, COUNTS = (20, 16), 96, 300
# Pixels (line, column) of the third phase.
RARE = tuple((line, column) for line in (12, 13, 14) for column in (7, 8, 9))


def line(centre: float) -> np.ndarray:
    return np.exp(-0.5 * ((np.arange(N_CHANNELS) - centre) / 2.5) ** 2)


def spectra() -> np.ndarray:
    """Return the (3, E) spectra of the phases, in sum one."""
    found = np.stack([line(20) + 0.6 * line(55), line(33) + 0.6 * line(55), line(20) + 0.9 * line(75)]) + 0.02
    return found / found.sum(axis=1, keepdims=True)


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    """(lines, columns) int, the phase of each pixel: two halves, and the third phase in one of them."""
    found = np.repeat([[0] * 10 + [1] * 6], SHAPE[0], axis=0)
    for where in RARE:
        found[where] = 2
    return found


@pytest.fixture(scope="session")
def counts(labels: np.ndarray) -> np.ndarray:
    """(lines, columns, E) counts."""
    return np.random.default_rng(0).poisson(COUNTS * spectra()[labels]).astype(np.uint16)


@pytest.fixture(scope="session")
def order() -> np.ndarray:
    """(n,) flat pixels in the order of a scan from coarse to fine."""
    return np.ravel_multi_index(tuple(scan_order(SHAPE[::-1]).T[::-1]), SHAPE)


def scanned(counts: np.ndarray, pixels: np.ndarray, *, block: int = 20, **options: object) -> Monitor:
    """Return a monitor that took the spectra of these pixels, and its events."""
    monitor = Monitor(Setup(SHAPE, N_CHANNELS, "grid", beside=False, **options))  # type: ignore[arg-type]
    rows = counts.reshape(-1, N_CHANNELS)
    monitor.heard = []  # type: ignore[attr-defined]
    for start in range(0, len(pixels), block):
        some = pixels[start : start + block]
        monitor.heard += monitor.update(rows[some], some)  # type: ignore[attr-defined]
    return monitor


@pytest.fixture(scope="session")
def monitor(counts: np.ndarray, order: np.ndarray) -> Monitor:
    """The monitor after the whole scan, before `finish`; not to be changed."""
    return scanned(counts, order)
