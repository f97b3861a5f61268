"""Which element a residual belongs to."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.anomaly._elements import EnergyAxis, Residual, find_elements, largest_gain, line_evidence, onset_z
from hyperspy_specml.signals import spectral_lines
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise
from hyperspy_specml.statistics._noise import gaussian_noise

CHANNELS, WIDTH = np.arange(120), np.full(120, 7.0)
FAMILIES = {"true": [[(50.0, 0.9), (80.0, 0.1)]], "beside it": [[(53.0, 1.0)]], "elsewhere": [[(20.0, 1.0)]]}


def lines(element: str) -> np.ndarray:
    sigma = 7.0 / np.sqrt(8 * np.log(2))
    return sum(
        weight * np.exp(-0.5 * ((CHANNELS - channel) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        for channel, weight in FAMILIES[element][0]
    )


@pytest.mark.parametrize("level", [0.1, 10.0])
def test_counts_far_from_a_line_do_not_outweigh_it_where_nothing_is_expected(level):
    rng, right = np.random.default_rng(0), 0
    background = np.where(CHANNELS < 54, level, 1e-6)  # nothing is expected beside the line
    for _ in range(50):
        residual = rng.poisson(background + 40 * lines("true")) - background
        evidence = line_evidence(residual, background, WIDTH, FAMILIES, PoissonNoise())
        right += max(evidence, key=lambda element: evidence[element]) == "true"

    assert right >= 48


@pytest.mark.parametrize("noise", [PoissonNoise(), PoissonGaussianNoise(0.0, 1e3), PoissonGaussianNoise(1e-9, 1e3)])
def test_evidence_is_the_drop_of_chi_squared_where_noise_is_normal(noise):
    residual = 30 * lines("true")
    variance = np.full(120, 1e6)

    evidence = line_evidence(residual, variance, WIDTH, FAMILIES, noise)

    assert evidence["true"] == pytest.approx(float(residual @ residual) / 1e6 - 2, abs=1e-3)
    assert evidence["elsewhere"] == pytest.approx(-2, abs=1e-3)


@pytest.mark.parametrize("empty", [0.3, 1e-6])
def test_the_gain_is_the_largest_that_any_amplitudes_give(empty):
    # Counts in a few channels, next to nothing expected in others, where least squares end far from the maximum.
    rng = np.random.default_rng(3)
    mean = np.where(CHANNELS < 54, 2.0, empty)
    counts = rng.poisson(mean + 100 * lines("true") + 30 * (np.abs(CHANNELS - 100) < 2))
    shapes = np.stack([lines("true"), np.exp(-0.5 * ((CHANNELS - 100) / 3.0) ** 2) / 7.5], axis=1)

    found = largest_gain(shapes, counts, mean)

    best = -np.inf
    for first in np.linspace(0, 200, 201):
        for second in np.linspace(0, 200, 201):
            added = shapes @ (first, second)
            best = max(best, float(counts @ np.log1p(added / mean) - added.sum()))
    assert best * (1 - 1e-9) <= found <= best + 0.1
    assert largest_gain(shapes, np.zeros(120), mean) == 0


ENERGIES = -0.2 + 0.01 * np.arange(2048)
# Full width of Gaussian lines of a detector with 130 eV at Mn Ka, in channels of 10 eV.
XRAY_WIDTH = np.sqrt(np.maximum(130.0**2 + 2.5 * (1e3 * ENERGIES - 5898.7), 30.0**2)) / 10


def xray_axis(*listed: str) -> EnergyAxis:
    s = hs.signals.Signal1D(np.zeros((1, len(ENERGIES)), np.uint8))
    s.set_signal_type("EDS_TEM")
    s.axes_manager[-1].units, s.axes_manager[-1].scale, s.axes_manager[-1].offset = "keV", 0.01, -0.2
    s.metadata.set_item("Sample.elements", list(listed))
    s.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return EnergyAxis(ENERGIES, spectral_lines(s))


def named(lines: dict[float, float], *listed: str, at: float, level: float = 0.05):
    """Return the candidates for counts in Gaussian lines at these energies, above a flat background."""
    counts = np.zeros(len(ENERGIES))
    for energy, n in lines.items():
        sigma = XRAY_WIDTH[np.abs(ENERGIES - energy).argmin()] * 0.01 / np.sqrt(8 * np.log(2))
        counts += n * 0.01 * np.exp(-0.5 * ((ENERGIES - energy) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    variance = np.full(len(ENERGIES), level)
    residual = np.random.default_rng(0).poisson(counts + variance) - variance
    everything = Residual(residual, variance, XRAY_WIDTH, np.arange(len(ENERGIES)), PoissonNoise())
    return find_elements(everything, xray_axis(*listed), at)


# Energies from the tables of Deslattes et al., Rev. Mod. Phys. 75 (2003) 35; counts as thin specimens give them.
CALCIUM = {3.6917: 600.0, 4.0127: 78.0}
APATITE = CALCIUM | {2.0134: 350.0, 0.5249: 200.0}
COPPER = {8.0478: 900.0, 8.9053: 120.0, 0.9297: 300.0}  # of the grid


def elements(candidates) -> list[str]:
    return [candidate.element for candidate in candidates]


@pytest.mark.parametrize(
    ("lines", "at", "right"),
    [
        (APATITE, 2.01, "P"),
        (APATITE | COPPER, 2.01, "P"),  # Cu Kb is Os La
        (APATITE, 3.69, "Ca"),
        ({1.4866: 200.0}, 1.49, "Al"),
        ({6.4039: 300.0, 7.058: 40.0}, 6.40, "Fe"),
        ({2.3072: 200.0, 2.4643: 13.0}, 2.31, "S"),
        (CALCIUM | {0.2774: 200.0}, 0.28, "C"),
    ],
)
def test_what_specimens_are_made_of_is_named_first(lines, at, right):
    assert elements(named(lines, at=at))[0] == right


def test_about_equal_evidence_is_said():
    found = named({2.3072: 200.0, 2.4643: 13.0}, at=2.31)

    assert {candidate.element for candidate in found if candidate.close} >= {"S", "Mo"}
    assert {candidate.element for candidate in named(CALCIUM, at=3.69) if candidate.close} == {"Ca"}


def test_listed_elements_come_first_and_are_marked_but_only_where_they_fit():
    sulphur = {2.3072: 200.0, 2.4643: 13.0}

    found = named(sulphur, "Pb", "Fe", at=2.31)

    assert (found[0].element, found[0].listed) == ("Pb", True)
    assert {"S", "Mo"} <= {candidate.element for candidate in found if candidate.close}
    assert not any(candidate.listed for candidate in found[1:])
    niobium = named({2.1659: 300.0, 2.2574: 150.0}, "P", "S", at=2.17)  # 140 to 150 eV away
    assert (niobium[0].element, niobium[0].listed) == ("Nb", False)


def test_radioactive_and_noble_elements_are_named_on_request_or_where_nothing_else_fits():
    uranium = {3.1708: 300.0, 3.3367: 192.0, 13.6147: 60.0, 17.2197: 25.0}
    silver = {2.9844: 200.0, 3.1509: 110.0}

    assert elements(named(uranium, at=3.17))[0] == "U"
    assert elements(named(silver, at=2.98))[0] == "Ag"
    assert not {"Th", "Ar", "Ac", "Pa"} & set(elements(named(silver, at=2.98)))
    assert elements(named({2.9577: 100.0}, "Ar", at=2.96))[0] == "Ar"
    assert not {"Tc", "Pm", "Rn", "Po", "At"} & set(elements(named(APATITE, at=2.01)))


def test_nothing_is_named_where_no_line_explains_the_residual():
    assert named({15.4: 30.0}, at=12.0) == ()


def test_few_counts_are_no_evidence_for_an_element_unless_it_is_listed():
    few, more = {2.6967: 3.0}, {2.6967: 30.0}

    assert named(few, at=2.70) == ()
    assert elements(named(few, "Rh", at=2.70)) == ["Rh"]
    assert "Rh" in elements(named(more, at=2.70))


LOSSES = 380 + 2.0 * np.arange(260)


def edges(residual: np.ndarray, energy: float, *listed: str, noise: float = 1.0):
    s = hs.signals.Signal1D(np.zeros((1, len(LOSSES))))
    s.set_signal_type("EELS")
    s.axes_manager[-1].units, s.axes_manager[-1].scale, s.axes_manager[-1].offset = "eV", 2.0, 380.0
    s.metadata.set_item("Sample.elements", list(listed))
    everything = np.arange(len(LOSSES))
    variance, width = np.full(len(LOSSES), noise**2), np.full(len(LOSSES), 3.0)
    found = Residual(residual, variance, width, everything, gaussian_noise(noise))
    return find_elements(found, EnergyAxis(LOSSES, spectral_lines(s)), energy)


def edge(onset: float, height: float, white_line: float = 0.0) -> np.ndarray:
    """Return an edge that falls with the third power, with a white line of 6 eV."""
    step = np.where(onset <= LOSSES, height * (onset / LOSSES) ** 3, 0)
    return step + white_line * np.exp(-0.5 * ((LOSSES - onset - 3) / 3) ** 2)


@pytest.mark.parametrize(
    ("onset", "white_line", "right"),
    [(532.0, 0.0, "O K"), (708.0, 30.0, "Fe L3"), (640.0, 30.0, "Mn L3"), (456.0, 20.0, "Ti L3"), (401.0, 0.0, "N K")],
)
def test_an_edge_is_named_by_its_onset(onset, white_line, right):
    residual = edge(onset, 12, white_line) + np.random.default_rng(1).normal(0, 1, len(LOSSES))

    for energy in (onset + 4, onset + 20):  # the strongest part may lie far beyond
        found = edges(residual, energy)

        assert str(found[0]) == right
        assert not {"Th", "Np", "Pa", "U", "Pu", "Am", "Ra"} & set(elements(found))


def test_a_glitch_a_slope_and_noise_have_no_onset():
    rng, glitch = np.random.default_rng(2), np.zeros(len(LOSSES))
    glitch[76] = 200  # at O K
    slope = np.linspace(-20, 20, len(LOSSES))
    for residual in (glitch, glitch - 150 * (np.arange(len(LOSSES)) == 77), slope, 0 * slope, -edge(532, 12)):
        assert edges(residual + rng.normal(0, 1, len(LOSSES)), 532.0) == ()


def test_a_listed_edge_comes_first_beside_others_at_the_same_onset():
    residual = edge(530, 12) + np.random.default_rng(1).normal(0, 1, len(LOSSES))

    assert str(edges(residual, 536, "Sb")[0]) == "Sb M5"
    assert edges(residual, 536, "Sb")[0].listed
    assert "O" in elements(edges(residual, 536, "Sb"))


def test_an_onset_needs_more_where_noise_is_correlated():
    counts = np.where(np.arange(60) >= 30, 4.0, 0.0)

    white = onset_z(counts, np.ones(60), 8, gaussian_noise(1.0))
    correlated = onset_z(counts, np.ones(60), 8, gaussian_noise(1.0, (1.0, 0.5)))

    assert white.argmax() == 30
    assert correlated.max() == pytest.approx(white.max() / np.sqrt(1 + 2 * 0.5 * 7 / 8))
