"""The alloy map is the mixture that its truth describes, with lines at the energies of exspy's tables."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.datasets import RarePhase, SimulatedMap, fe_cr_ni_map
from hyperspy_specml.exceptions import OptionError

SHAPE = (24, 31)


@pytest.fixture(scope="module")
def alloy() -> SimulatedMap:
    return fe_cr_ni_map(SHAPE, rare_phase=RarePhase(n_pixels=11, fraction=0.3))


def abundances(simulated: SimulatedMap) -> np.ndarray:
    return np.moveaxis(simulated.truth["abundances"].data, 0, -1)  # (ny, nx, K)


@pytest.mark.parametrize("texture", ["smooth", "grains"])
@pytest.mark.parametrize("rare_phase", [None, RarePhase(n_pixels=5)])
def test_clean_map_is_dose_times_thickness_times_abundances_times_endmembers(
    texture: str, rare_phase: RarePhase | None
) -> None:
    simulated = fe_cr_ni_map((7, 11), n_channels=301, dose=70, texture=texture, rare_phase=rare_phase)

    mixture = abundances(simulated) @ simulated.endmembers.data
    expected = 70 * simulated.truth["thickness"].data[..., None] * mixture

    assert simulated.clean.data.dtype == np.float32
    np.testing.assert_allclose(simulated.clean.data, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(abundances(simulated).sum(axis=-1), 1)
    np.testing.assert_allclose(simulated.endmembers.data.sum(axis=-1), 1)


@pytest.mark.parametrize("n_channels", [256, 2048])
def test_mean_counts_per_pixel_are_the_dose(n_channels: int) -> None:
    simulated = fe_cr_ni_map(SHAPE, n_channels=n_channels, dose=200)
    n_pixels = np.prod(SHAPE)

    np.testing.assert_allclose(simulated.clean.data.sum(dtype=float) / n_pixels, 200, rtol=1e-6)
    assert abs(simulated.signal.data.sum(dtype=float) / n_pixels - 200) < 4 * np.sqrt(200 / n_pixels)


@pytest.mark.parametrize("element", ["Fe", "Cr", "Ni"])
def test_lines_are_where_exspys_table_has_them(alloy: SimulatedMap, element: str) -> None:
    from exspy.material import elements

    spectrum = alloy.endmembers.inav[alloy.names.index(element)]
    for line in ("Ka", "Kb"):
        energy = elements[element].Atomic_properties.Xray_lines[line]["energy (keV)"]
        nearby = spectrum.isig[energy - 0.15 : energy + 0.15]
        assert abs(nearby.valuemax(-1).data[0] - energy) <= 0.01  # a channel


def test_lines_are_as_wide_as_exspy_expects_of_the_detector(alloy: SimulatedMap) -> None:
    peak = alloy.endmembers.inav[alloy.names.index("Ni")].isig[7.2:7.8]
    measured = peak.data > peak.data.max() / 2
    width = measured.sum() * peak.axes_manager.signal_axes[0].scale

    alloy.signal.set_lines(["Ni_Ka"])
    assert alloy.signal._get_line_energy("Ni_Ka", FWHM_MnKa="auto")[1] == pytest.approx(width, abs=0.02)


def test_compositions_span_the_triangle() -> None:
    corners = abundances(fe_cr_ni_map((64, 64), n_channels=8)).reshape(-1, 3)

    assert (corners.max(axis=0) > 0.98).all()
    assert (corners.min(axis=1) > 0.15).mean() > 0.03
    for missing in range(3):  # along each side the two others are mixed half and half
        pair = np.delete(corners, missing, axis=1)
        assert ((pair > 0.4).all(axis=1) & (corners[:, missing] < 0.1)).any()


def test_fourth_smooth_endmember_is_an_oxide() -> None:
    simulated = fe_cr_ni_map((24, 24), n_channels=256, n_phases=4)

    assert simulated.names == ("Fe", "Cr", "Ni", "oxide")
    assert "O" in simulated.signal.metadata.Sample.elements


def test_grains_are_pure_and_their_borders_sharp() -> None:
    simulated = fe_cr_ni_map((40, 50), n_channels=8, texture="grains")
    phases = abundances(simulated)

    assert set(np.unique(phases)) == {0, 1}
    assert (phases.sum(axis=(0, 1)) > 0).all()
    border = (phases[1:] != phases[:-1]).any(axis=-1).mean()
    assert 0 < border < 0.2  # grains, not salt and pepper


def test_rare_phase_has_its_pixels_its_fraction_and_lines_of_its_own(alloy: SimulatedMap) -> None:
    rare = alloy.rare_mask.data
    plain = fe_cr_ni_map(SHAPE)
    own_line = alloy.clean.isig[2.1:2.25].data.sum(axis=-1)  # Nb La
    without = plain.clean.isig[2.1:2.25].data.sum(axis=-1)

    assert rare.dtype == bool
    assert rare.sum() == 11
    np.testing.assert_allclose(abundances(alloy)[rare, -1], 0.3)
    assert (own_line[rare] > 5 * without[rare]).all()
    np.testing.assert_array_equal(own_line[~rare], without[~rare])
    assert np.ptp(np.argwhere(rare), axis=0).max() <= 5  # compact
    assert alloy.names[-1] == "Nb"


def test_rare_mask_serves_as_navigation_mask(alloy: SimulatedMap) -> None:
    spectra = alloy.signal.deepcopy()
    spectra.change_dtype("float32")
    spectra.decomposition(
        output_dimension=2, navigation_mask=alloy.rare_mask, print_info=False, normalize_poissonian_noise=False
    )

    unmasked = spectra.learning_results.loadings[~alloy.rare_mask.data.ravel()]
    assert np.isfinite(unmasked).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texture": "grain"}, "Did you mean 'grains'"),
        ({"n_phases": 7}, "use 2 to 4"),
        ({"dose": 0}, "positive number"),
        ({"shape": (3, 4, 5, 6)}, "one to three"),
        ({"n_channels": 1}, "at least 2 channels"),
        ({"rare_phase": RarePhase(n_pixels=77)}, "77 pixels|n_pixels"),
        ({"rare_phase": RarePhase(n_pixels=2, elements=("Xy",))}, "no element"),
        ({"rare_phase": RarePhase(n_pixels=2, elements=("H",))}, "no line"),
    ],
)
def test_impossible_maps_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fe_cr_ni_map(**{"shape": (7, 11), "n_channels": 64, **options})


def test_rare_phase_needs_a_fraction() -> None:
    with pytest.raises(OptionError, match="fraction above 0"):
        RarePhase(fraction=0)
