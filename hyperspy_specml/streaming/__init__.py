"""Read spectra block by block, within a memory budget, through dask."""

from hyperspy_specml.streaming._blocks import Block, plan_blocks
from hyperspy_specml.streaming._neighbours import map_boxes, map_with_halo, patch_sums
from hyperspy_specml.streaming._parallel import compute, side_by_side
from hyperspy_specml.streaming._passes import SpectrumStream, shift_channels
