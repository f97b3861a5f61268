"""Read spectra block by block, within a memory budget, through dask."""

from hyperspy_specml.streaming._blocks import Block, plan_blocks
from hyperspy_specml.streaming._passes import SpectrumStream, side_by_side

__all__ = ["Block", "SpectrumStream", "plan_blocks", "side_by_side"]
