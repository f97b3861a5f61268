"""The same counts in any dtype and the same measurement in any unit give the same answer."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.parametrize("architecture", ["pca", "dense"])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f2", "f4", "f8", ">u2", ">f4"])
def test_counts_give_the_same_answer_in_any_dtype(
    make_map, make_counts, decompose, fitted, unchanged, architecture, dtype
):
    _, expected = fitted(architecture)
    data = make_counts()
    assert data.max() < 256

    dec = decompose(unchanged(make_map(data=data.astype(dtype))), architecture=architecture)

    assert dec.report.noise_model["name"] == "poisson"
    np.testing.assert_allclose(dec.scores.data, expected.scores.data, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dec.residual.data, expected.residual.data, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e9])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_unit_of_the_values_changes_nothing_but_the_unit(
    make_map, make_counts, decompose, architecture, scale, dtype
):
    data = (make_counts() + np.random.default_rng(1).normal(0, 2, (12, 17, 61))).astype(dtype)

    ones, scaled = (
        decompose(make_map(data=values), 2, architecture=architecture, noise="poisson-gaussian")
        for values in (data, (data * scale).astype(dtype))
    )

    assert scaled.report.noise_model["gain"] == pytest.approx(scale * ones.report.noise_model["gain"], rel=0.01)
    spread = ones.scores.data.std()
    np.testing.assert_allclose(scaled.scores.data, ones.scores.data, atol=0.02 * spread)
    for name in ("components", "reconstruction", "residual"):
        values, expected = (getattr(one, name).data for one in (scaled, ones))
        assert np.isfinite(values).all()
        np.testing.assert_allclose(values / scale, expected, atol=0.02 * np.abs(expected).max())
