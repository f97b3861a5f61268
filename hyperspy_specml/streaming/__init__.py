"""Read spectra block by block, within a memory budget, through dask."""

from hyperspy_specml.streaming._map import (
    Block,
    SpectrumStream,
    map_with_halo,
    patch_sums,
    plain_array,
    plan_blocks,
    shift_channels,
)
from hyperspy_specml.streaming._parallel import (
    compute,
    one_blas_thread,
    one_openmp_thread,
    side_by_side,
    without_lost_threads,
)
