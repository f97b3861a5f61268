"""The iron edge has the chemical shift, the drift and the thickness of its truth."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.datasets import ShiftedEdge, fe_l_map, fe_l_spectra
from hyperspy_specml.exceptions import OptionError

SHAPE = (19, 13)
ENERGY = 690 + 0.1 * np.arange(512)


@pytest.mark.parametrize("background", [True, False])
def test_mean_counts_per_channel_are_the_dose(background: bool) -> None:
    simulated = fe_l_map(SHAPE, dose=30, background=background)

    np.testing.assert_allclose(simulated.clean.data.mean(dtype=float), 30, rtol=1e-6)
    assert abs(simulated.signal.data.mean() - 30) < 4 * np.sqrt(30 / simulated.signal.data.size)


def test_white_lines_shift_to_higher_energy_from_fe2_to_fe3() -> None:
    fe2, fe3 = fe_l_spectra([0.0, 1.0], 0.3, background=False)

    assert ENERGY[fe2.argmax()] == pytest.approx(707.8, abs=0.15)
    assert ENERGY[fe3.argmax()] == pytest.approx(709.5, abs=0.15)
    for spectrum in (fe2, fe3):
        l2_window = (ENERGY > 718) & (ENERGY < 726)
        l2 = ENERGY[l2_window][spectrum[l2_window].argmax()]
        assert 12 < l2 - ENERGY[spectrum.argmax()] < 15


def test_valences_mix_linearly() -> None:
    fe2, half, fe3 = fe_l_spectra([0.0, 0.4, 1.0], 0.8, 0.3)

    np.testing.assert_allclose(half, 0.6 * fe2 + 0.4 * fe3)


def test_shift_moves_the_spectrum_by_so_many_electronvolts() -> None:
    np.testing.assert_allclose(fe_l_spectra(0.3, shift=1.7, energy=ENERGY + 1.7), fe_l_spectra(0.3), rtol=1e-9)


def test_thick_specimens_scatter_more_than_once() -> None:
    before, after = ENERGY < 715, ENERGY > 728
    thin, thick = fe_l_spectra(0.5, [0.3, 1.2], background=False)

    assert thick[after].sum() / thick[before].sum() > 1.3 * thin[after].sum() / thin[before].sum()


def test_single_losses_of_a_vanishing_thickness_scale_with_it() -> None:
    thin, thinner = fe_l_spectra(0.5, [1e-6, 1e-7])

    np.testing.assert_allclose(thin, 10 * thinner, rtol=1e-5)


def test_parameters_broadcast() -> None:
    spectra = fe_l_spectra(np.zeros((5, 1)), np.full(3, 0.5), energy=ENERGY[::50])

    assert spectra.shape == (5, 3, 11)


def test_map_is_the_spectra_of_its_truth() -> None:
    simulated = fe_l_map(SHAPE, rare_phase=ShiftedEdge(n_pixels=5, shift=2.0))
    truth = {name: signal.data for name, signal in simulated.truth.items()}
    spectra = fe_l_spectra(truth["fe3_fraction"], truth["thickness"], truth["shift"], iron=truth["iron"])

    np.testing.assert_allclose(simulated.clean.data, spectra * 30 / spectra.mean(), rtol=1e-5)


def test_truth_spans_its_ranges() -> None:
    truth = fe_l_map(SHAPE, n_channels=16).truth

    for name, low, high in (("fe3_fraction", 0, 1), ("thickness", 0.3, 1.2), ("iron", 0.6, 1.4)):
        assert (truth[name].data.min(), truth[name].data.max()) == pytest.approx((low, high))
    assert truth["shift"].data.std() == pytest.approx(0.5)


def test_scan_lines_jump_while_pixels_of_a_line_drift_slowly() -> None:
    shift = fe_l_map((60, 50), n_channels=16).truth["shift"].data

    assert np.abs(np.diff(shift, axis=1)).max() < 0.02
    assert np.abs(np.diff(shift, axis=0)).mean() > 0.1


def test_map_without_drift_has_no_shift_and_the_same_fields() -> None:
    still, drifting = fe_l_map(SHAPE, drift=False), fe_l_map(SHAPE)

    assert not still.truth["shift"].data.any()
    for name in ("fe3_fraction", "thickness", "iron"):
        np.testing.assert_array_equal(still.truth[name].data, drifting.truth[name].data)
    clean = still.clean.data.reshape(-1, 512) / still.clean.data.max()
    singular = np.linalg.svd(clean, compute_uv=False)
    assert singular[3] > 1e-4 * singular[0]  # nonlinear in the thickness


def test_planted_shift_is_in_the_mask_and_nowhere_else() -> None:
    plain = fe_l_map(SHAPE, n_channels=64)
    planted = fe_l_map(SHAPE, n_channels=64, rare_phase=ShiftedEdge(n_pixels=7, shift=1.5))
    difference = planted.truth["shift"].data - plain.truth["shift"].data

    assert planted.rare_mask.data.sum() == 7
    np.testing.assert_allclose(difference, 1.5 * planted.rare_mask.data, atol=1e-12)


@pytest.mark.parametrize("options", [{"shift": 500.0}, {"energy": np.array([0.70, 0.71])}])
def test_energies_far_from_the_edge_are_refused(options: dict) -> None:
    with pytest.raises(OptionError, match="600 to 1200 eV"):
        fe_l_spectra(0.5, **options)
