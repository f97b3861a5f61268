"""Measured maps: what a denoiser must not lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hyperspy.api as hs
import pytest

import hyperspy_specml as specml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore::hyperspy.exceptions.VisibleDeprecationWarning")
def test_a_small_iron_particle_is_kept(data_folder: Path, quick: Any) -> None:
    """The 5 x 5 pixels about (7, 36.5) nm hold 55 counts of iron where 13 are around: a denoiser alone leaves 11."""
    signal = hs.load(data_folder / "usnist-tutorial" / "bare_core.hspy").inav[:30, 54:].isig[:8.0]
    clean = signal.denoise_dae(context="spatial", **quick)
    iron = slice(*(signal.axes_manager[-1].value2index(energy) for energy in (6.3, 6.5)))
    here = (slice(73 - 54 - 2, 73 - 54 + 3), slice(12, 17), iron)
    report = specml.denoise_report(clean)
    number = report.removed_map()[19, 14]
    assert signal.data[here].sum() == 55
    assert number > 0
    assert report.removed[number - 1].energy.startswith("6.")
    assert clean.data[here].sum() > 45
    assert report.restored
    counts = signal.data[..., iron].sum()
    assert clean.data[..., iron].sum() == pytest.approx(counts, abs=3 * counts**0.5)
