"""Orders of scanning, and what they allow to say of the area that no spectrum has shown."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.live import scan_order, unseen_area


@pytest.mark.parametrize("kind", ["raster", "grid", "random"])
@pytest.mark.parametrize("shape", [(7,), (7, 5), (1, 6), (3, 4, 2)])
def test_every_pixel_comes_once(kind: str, shape: tuple[int, ...]) -> None:
    positions = scan_order(shape, kind)
    assert positions.shape == (np.prod(shape), len(shape))
    assert len(np.unique(positions, axis=0)) == len(positions)
    assert (positions.max(axis=0) == np.array(shape) - 1).all()


def test_a_grid_is_scanned_from_coarse_to_fine() -> None:
    positions = scan_order((16, 8), "grid")
    for step in (8, 4, 2):
        n = (16 // step) * (8 // step)
        assert (positions[:n] % step == 0).all()
        assert (positions[n:] % step != 0).any(axis=1).all()


def test_x_comes_first_and_runs_fastest() -> None:
    assert scan_order((3, 2), "raster").tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]


@pytest.mark.parametrize(("shape", "kind"), [((4, 4), "spiral"), ((0, 4), "grid"), ((), "grid"), ((2.5, 4), "grid")])
def test_other_orders_and_shapes_are_refused(shape: tuple, kind: str) -> None:
    with pytest.raises(OptionError):
        scan_order(shape, kind)


def first(shape: tuple[int, ...], kind: str, n: int) -> np.ndarray:
    since = np.zeros(np.prod(shape), bool)
    since[np.ravel_multi_index(tuple(scan_order(shape[::-1], kind)[:n].T[::-1]), shape)] = True
    return since


def test_the_bound_is_that_of_independent_pixels() -> None:
    found = unseen_area("grid", first((64, 64), "grid", 256), (64, 64), 3)
    assert found.bound == pytest.approx(np.log(4 / 0.05) / 256)
    assert found.confidence == 0.95
    assert "256 pixels" in str(found)


def test_a_raster_scan_makes_no_statement_even_at_its_end() -> None:
    found = unseen_area("raster", np.ones(64 * 64, bool), (64, 64), 3)
    assert found.bound is None
    assert "scan_order" in found.statement


def test_pixels_of_one_end_of_the_map_make_no_statement() -> None:
    """Positions of the user may be a raster under another name."""
    assert unseen_area("positions", first((64, 64), "raster", 1024), (64, 64), 3).bound is None
    assert unseen_area("positions", first((64, 64), "random", 1024), (64, 64), 3).bound is not None


def test_the_bound_holds_for_phases_of_that_size() -> None:
    """A compact phase as large as the bound says is met in all but 5 % of the maps."""
    rng, missed = np.random.default_rng(0), 0
    since = first((64, 64), "grid", 300)
    bound = unseen_area("grid", since, (64, 64), 1).bound
    assert bound is not None
    side = int(np.ceil(np.sqrt(bound * 64 * 64)))
    for _ in range(200):
        row, column = rng.integers(0, 64 - side + 1, 2)
        missed += not since.reshape(64, 64)[row : row + side, column : column + side].any()
    assert missed <= 0.05 * 200


def test_without_pixels_since_the_last_phase_there_is_no_statement() -> None:
    assert unseen_area("grid", np.zeros(100, bool), (10, 10), 2).bound is None
