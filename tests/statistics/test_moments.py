"""Second moments: exact for counts, and the same for any kernel, dtype or partition."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from hyperspy_specml.statistics import Moments, moments_of
from hyperspy_specml.statistics import _moments as module

SHAPE = (300, 130)  # both above 128, where the integer kernel starts


def whole_numbers(low, high, dtype, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def assert_equal_moments(found: Moments, rows):
    exact = rows.astype(np.int64)
    assert found.n == len(rows)
    np.testing.assert_array_equal(found.sums, exact.sum(axis=0))
    np.testing.assert_array_equal(found.products, exact.T @ exact)


@pytest.mark.parametrize("integer_kernel", [True, False])
@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 1, "bool"), (0, 3, "uint8"), (0, 127, "uint8"), (0, 255, "uint8"), (-128, 127, "int8"),
        (-128, 200, "int16"), (-128, -100, "int16"), (0, 255, ">u2"), (0, 65535, "uint16"),
        (-30000, 30000, "int16"), (-5, 7, "int64"),
    ],
)  # fmt: skip
def test_moments_of_integers_are_exact(low, high, dtype, integer_kernel, monkeypatch):
    monkeypatch.setattr(module, "_integer_kernel_pays", lambda *_: integer_kernel)
    rows = whole_numbers(low, high, dtype)

    assert_equal_moments(moments_of(rows), rows)


def test_integer_sums_beyond_one_slab_do_not_overflow(monkeypatch):
    monkeypatch.setattr(module, "_integer_kernel_pays", lambda *_: True)
    rows = np.full((200_000, 8), 255, np.uint8)

    assert_equal_moments(moments_of(rows), rows)


def test_float32_products_stay_exact_where_their_sums_would_not_fit():
    rows = np.full((70_000, 3), 150, np.uint16)  # the sums reach 1.6e9, float32 counts to 1.7e7

    assert_equal_moments(moments_of(rows), rows)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_moments_of_floats_agree_with_float64(dtype, scale):
    rows = (scale * np.random.default_rng(1).normal(size=(57, 13))).astype(dtype)
    wide = rows.astype(np.float64)
    found = moments_of(rows)

    np.testing.assert_allclose(found.products, wide.T @ wide, rtol=1e-12, atol=1e-12 * scale**2)
    np.testing.assert_allclose(found.sums, wide.sum(axis=0), rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize(("top", "dtype"), [(10**9, "int64"), (10**9, "float32"), (2**60, "uint64")])
def test_large_values_do_not_overflow(top, dtype):
    rows = whole_numbers(top // 2, top, dtype, shape=(57, 13))
    wide = rows.astype(np.float64)

    np.testing.assert_allclose(moments_of(rows).products, wide.T @ wide, rtol=1e-12)


def test_the_float32_kernel_is_exact_for_small_sums_and_close_otherwise():
    few, many = whole_numbers(0, 100, "uint8"), whole_numbers(0, 60000, "uint16")

    assert_equal_moments(moments_of(few, kernel="float32"), few)
    np.testing.assert_allclose(moments_of(many, kernel="float32").products, moments_of(many).products, rtol=1e-5)


def test_merged_moments_are_those_of_the_whole():
    rows = whole_numbers(0, 9, "uint8", shape=(31, 7))
    parts = [moments_of(part) for part in np.array_split(rows, [3, 3, 20])]
    merged = functools.reduce(Moments.absorb, parts)

    assert_equal_moments(merged, rows)
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0))
    np.testing.assert_allclose(merged.covariance(centre=True), np.cov(rows.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(merged.covariance(centre=False), rows.T / len(rows) @ rows)


@pytest.mark.parametrize("channels", [np.array([5, 0, 2]), np.arange(7) % 2 == 1])
def test_selected_moments_are_those_of_the_selected_channels(channels):
    rows = whole_numbers(0, 9, "uint8", shape=(31, 7))

    assert_equal_moments(moments_of(rows).select(channels), rows[:, channels])


def test_moments_do_not_change_their_input():
    rows = whole_numbers(0, 255, "uint8")
    before = rows.copy()
    moments_of(rows)

    np.testing.assert_array_equal(rows, before)
