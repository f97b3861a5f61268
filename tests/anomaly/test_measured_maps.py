"""Measured maps: the elements that regions are named by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hyperspy.api as hs
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore::hyperspy.exceptions.VisibleDeprecationWarning"),
    pytest.mark.usefixtures("few_drawn_pixels"),
]

# File, part of the map, and the first name of its regions: what is known of the specimen, and its other lines show.
MAPS = {
    # A mineral that was cut out by gallium ions; gallium is not in its list.
    "88_ES-LP": ("espm/88_ES-LP_G8_selection2_cropped2.hspy", np.s_[:24, 10:42], {"Ga": False}),
    "bare_core": ("usnist-tutorial/bare_core.hspy", np.s_[:30, 54:], {"Fe": True}),
    "tilt_0": ("openncem/tilt_0.bcf", np.s_[222:254, 226:254], {"S": True}),
}


@pytest.mark.parametrize("name", MAPS)
def test_regions_of_measured_maps_have_the_names_that_their_specimens_explain(name: str, data_folder: Path) -> None:
    file, part, right = MAPS[name]
    loaded = hs.load(data_folder / file)
    signal = (loaded if isinstance(loaded, list) else [loaded])[-1].inav[part]
    found = signal.anomaly_map(show_progressbar=False)
    listed = set(signal.metadata.Sample.elements)
    first = {region.candidates[0].element: region.candidates[0].listed for region in found.regions if region.candidates}
    assert right.items() <= first.items()
    for region in found.regions:
        assert all(candidate.listed == (candidate.element in listed) for candidate in region.candidates)
        believed = [candidate for candidate in region.candidates if candidate.close]
        assert not any(candidate.listed for candidate in believed) or region.candidates[0].listed


@pytest.mark.parametrize(
    ("file", "part"), [("motokishiga/mn3o4_f2.hspy", np.s_[:]), ("pangroup/Example_BTO_deleted.dm4", np.s_[:20, :20])]
)
def test_losses_without_an_onset_have_no_name(file: str, part: object, data_folder: Path) -> None:
    found = hs.load(data_folder / file).inav[part].anomaly_map(show_progressbar=False)
    assert not any(region.candidates for region in found.regions)
