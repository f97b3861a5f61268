"""What a residual tells: arrays, NumPy and SciPy only."""

from hyperspy_specml.analysis._erased import (
    Erased,
    ErasedRegion,
    WindowSums,
    channel_windows,
    find_erased,
)

__all__ = ["Erased", "ErasedRegion", "WindowSums", "channel_windows", "find_erased"]
