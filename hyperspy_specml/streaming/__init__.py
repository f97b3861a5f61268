"""Read spectra block by block, within a memory budget, through dask."""

from hyperspy_specml.streaming._blocks import Block, plan_blocks
from hyperspy_specml.streaming._lines import move
from hyperspy_specml.streaming._neighbours import map_boxes, map_with_halo, patch_sums
from hyperspy_specml.streaming._passes import SpectrumStream, side_by_side

__all__ = [
    "Block", "SpectrumStream", "map_boxes", "map_with_halo", "move", "patch_sums", "plan_blocks",
    "side_by_side",
]  # fmt: skip
