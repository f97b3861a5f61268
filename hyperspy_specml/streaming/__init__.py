"""Read spectra block by block, within a memory budget, through dask."""

from hyperspy_specml.streaming._blocks import Block, plan_blocks
from hyperspy_specml.streaming._passes import SpectrumStream

__all__ = ["Block", "SpectrumStream", "plan_blocks"]
