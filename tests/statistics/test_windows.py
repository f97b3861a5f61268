"""Sums over windows of energy: their noise."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise, energy_windows


@pytest.mark.parametrize("correlation", [(1.0,), (1.0, 0.6, 0.2), (1.0, -0.4)])
def test_correlation_along_energy_widens_sums_as_its_matrix_says(correlation: tuple[float, ...]) -> None:
    windows = energy_windows(np.full(40, 3.0), np.ones(40, bool), factors=(1.0, 2.0))
    lags = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    matrix = np.append(correlation, 0)[np.minimum(lags, len(correlation))]  # of the noise of neighbouring channels
    inside = (np.arange(40) >= windows.starts[:, None]) & (np.arange(40) < windows.stops[:, None])
    whole = np.isclose(windows.widths, inside.sum(axis=1))  # at the ends of the axis windows are cut
    exact = np.einsum("je,ef,jf->j", inside, matrix, inside) / inside.sum(axis=1)
    ratio = windows.variance_ratio(PoissonGaussianNoise(0.1, 1.0, correlation))
    np.testing.assert_allclose(ratio[whole], exact[whole], rtol=1e-12)
    assert whole.sum() > 50
    assert (windows.variance_ratio(PoissonNoise()) == 1).all()
