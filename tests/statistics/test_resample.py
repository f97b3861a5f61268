"""Resampling to other channels: counts are conserved, and what is not sound is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from hyperspy_specml.statistics import EMPTY, MASKED, SATURATED, USED, plan_resampling

OWN = 100 + 0.5 * np.arange(61)
ALL = np.full(61, USED, np.uint8)


def peak(centres, width):
    """Return the counts of a normal peak in each channel, exactly."""
    half = np.abs(np.gradient(centres)) / 2
    return 0.5 * np.subtract(*(erf((centres + sign * half - 115.2) / (np.sqrt(2) * width)) for sign in (1, -1)))


def test_the_same_channels_change_nothing():
    spectra = np.random.default_rng(0).normal(size=(3, 61))

    resampled = plan_resampling(OWN, ALL, OWN)(spectra)

    np.testing.assert_allclose(resampled, spectra, atol=1e-12)


@pytest.mark.parametrize("scale", [0.25, 0.37, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("shift", [0.0, 0.21])
def test_a_peak_keeps_its_energy_and_its_counts(scale, shift):
    there = np.arange(99 + shift, 132, scale)

    resampling = plan_resampling(OWN, ALL, there)

    used = resampling.channel_state == USED
    resampled = resampling(peak(OWN, 1.5)[None])[0]
    assert resampled.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(resampled, peak(there, 1.5)[used], atol=2e-4 * scale / 0.5 + 1e-4)


def test_counts_scale_with_the_width_of_channels():
    there = 100 * 1.004 ** np.arange(70)

    resampling = plan_resampling(OWN, ALL, there)

    used = resampling.channel_state == USED
    np.testing.assert_allclose(resampling(np.ones((1, 61)))[0], 2 * np.gradient(there)[used], rtol=1e-3)


def test_falling_channels_are_rising_ones_read_backwards():
    spectra = np.random.default_rng(0).normal(size=(3, 61))
    there = np.arange(99, 132, 0.37)

    rising = plan_resampling(OWN, ALL, there)
    falling = plan_resampling(OWN[::-1], ALL, there[::-1])

    np.testing.assert_array_equal(falling.channel_state, rising.channel_state[::-1])
    np.testing.assert_allclose(falling(spectra[:, ::-1]), rising(spectra)[:, ::-1], atol=1e-12)


def test_channels_of_the_data_have_the_states_that_the_model_has_there():
    state = ALL.copy()
    state[10], state[30:34], state[57:] = EMPTY, SATURATED, MASKED
    there = 99 + 0.25 * np.arange(130)

    resampling = plan_resampling(OWN, state, there)
    spectrum = resampling(np.ones((1, (state == USED).sum())))[0]

    states = {"empty": EMPTY, "saturated": SATURATED, "masked": MASKED}
    found = {name: there[resampling.channel_state == code] for name, code in states.items()}
    assert found["empty"].min() == found["empty"].max() == 105
    assert (found["saturated"].min(), found["saturated"].max()) == (115, 116.75)
    assert found["masked"].min() == 99
    assert 114.75 in found["masked"]  # half of it is in use, half of it was saturated
    assert spectrum.sum() == pytest.approx(0.5 * len(spectrum), rel=0.03)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (OWN[1:], r"the model needs all channels from 99\.75 to 130\.25"),
        (OWN[:-1], r"the model needs all channels"),
        (OWN + 0.4, r"the model needs all channels"),
        (np.arange(98, 133, 1.1), r"its channels are 2\.2 times as wide"),
        (np.arange(98, 133, 0.2), r"its channels are 0\.4 times as wide"),
        (np.r_[OWN[:30], OWN[29:]], r"its channels are not in rising or falling order"),
        (np.r_[OWN[30:], OWN[:30]], r"its channels are not in rising or falling order"),
        (np.array([110.0]), r"its channels are not in rising or falling order"),
    ],
)
def test_resampling_that_is_not_sound_is_refused_with_the_reason(there, message):
    with pytest.raises(ValueError, match=message):
        plan_resampling(OWN, ALL, there)


def test_data_have_to_cover_only_the_channels_in_use():
    state = ALL.copy()
    state[:20] = MASKED

    assert (plan_resampling(OWN, state, OWN[20:]).channel_state == USED).all()


def test_half_a_channel_may_be_missing_as_rebinning_drops_it():
    there = OWN[:60].reshape(30, 2).mean(axis=1)

    assert (plan_resampling(OWN, ALL, there).channel_state == USED).all()
