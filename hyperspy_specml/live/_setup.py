"""What is to be scanned, where a scan begins, and spectra that wait.

n spectra, E channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.latent import Recipe
    from hyperspy_specml.live._library import Library
    from hyperspy_specml.live._spectra import Spectra

# Pixels that the first phases are learnt from: part of the map, within limits.
_FIRST_PART, _LEAST_FIRST, MOST_FIRST = 32, 256, 2048


@dataclass(frozen=True, eq=False)
class Setup:
    """What is to be scanned.

    Attributes
    ----------
    shape
        Of the map, in array order.
    n_channels
        Number of channels E.
    order
        "raster", "grid", "random" or "positions".
    noise
        See `statistics.estimate_noise`.
    widths
        (E,) full width at half maximum of a line in channels; None estimates one.
    n_components
        Of the streaming PCA.
    seed
        Of everything random.
    beside
        Whether phases are learnt in a thread of their own, while spectra arrive.
    training_seconds
        Time in each update that an autoencoder is trained for; 0 for none.
    """

    shape: tuple[int, ...]
    n_channels: int
    order: str = "raster"
    noise: str = "auto"
    widths: np.ndarray | None = field(default=None, repr=False)
    n_components: int = 8
    seed: int = 0
    beside: bool = True
    training_seconds: float = 0.0

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the map."""
        return int(np.prod(self.shape))

    @property
    def n_first(self) -> int:
        """Number of spectra that the first phases are learnt from."""
        return min(int(np.clip(self.n_pixels // _FIRST_PART, _LEAST_FIRST, MOST_FIRST)), self.n_pixels)


@dataclass(frozen=True, eq=False)
class Known:
    """Where a scan begins: phases of another map, or any model of its spectra.

    Attributes
    ----------
    recipe
        From spectra to values; None where that is learnt from the first spectra.
    library
        The phases; None of a model.
    expectation
        From (n, E) spectra to what the model expects of each; None of phases.
    channels
        (E,) bool, the channels that are looked at; None for all.
    """

    recipe: Recipe | None = None
    library: Library | None = None
    expectation: Callable[[np.ndarray], np.ndarray] | None = None
    channels: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Block:
    """Spectra that wait to be compared with the phases.

    Attributes
    ----------
    spectra
        n of them.
    pixels
        (n,) flat indices.
    again
        Whether they are of a later frame: changes are a matter of trends then.
    taught
        Whether the first phases are learnt from them.
    """

    spectra: Spectra
    pixels: np.ndarray
    again: bool
    taught: bool
