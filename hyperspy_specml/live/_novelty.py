"""Spectra that no phase explains: which of them make a new phase.

n spectra, G groups of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hyperspy_specml.live._library import Found, Library
    from hyperspy_specml.live._spectra import Spectra

# p-value over the level below which a single spectrum is a phase; others wait until a second one is like them.
_ALONE = 1e-6
# Share of a phase in spectra like the one that it is begun with: that one has noise of its own, which theirs has not.
_LEAST_SHARE = 0.2
# Spectra that a phase is begun with, at most: the clearest ones.
_MOST_SEEDS = 8


@dataclass(frozen=True, eq=False)
class NewSpectra:
    """Spectra that make a new phase.

    Attributes
    ----------
    library
        With that phase, the last one.
    seed
        Index of the spectrum that shows it most clearly.
    members
        (m,) indices of all.
    """

    library: Library
    seed: int
    members: np.ndarray


def find_new(library: Library, spectra: Spectra, found: Found, level: float) -> NewSpectra | None:
    """Return the clearest new phase among spectra, if there is one.

    Parameters
    ----------
    library
        What is known.
    spectra
        n of them.
    found
        What the library says of them.
    level
        p-value of a spectrum from which it is of no known phase.
    """
    p = library.p_values(found.deviate)
    new = np.flatnonzero(p < level)
    for seed in new[np.argsort(-found.deviate[new])][:_MOST_SEEDS]:
        grown = library.with_phase(spectra.values[seed : seed + 1].astype(np.float64), 1)
        others = new[new != seed]
        again = grown.look(spectra[others])
        like = others[(grown.p_values(again.deviate) >= level) & (again.shares[:, -1] > _LEAST_SHARE)]
        if len(like) or p[seed] < _ALONE * level:
            members = np.append(like, seed)
            sums = spectra.values[members].sum(axis=0, dtype=np.float64)[None]
            return NewSpectra(library.with_phase(sums, len(members)), int(seed), members)
    return None


def superseded(library: Library, n_first: int, level: float) -> list[int]:
    """Return phases that are mixtures of others and of the last one: pixels of its border were met before it.

    Parameters
    ----------
    library
        With the new phase.
    n_first
        The first so many phases are certain.
    level
        p-value of a spectrum from which it is of no known phase.
    """
    found = []
    for phase in range(n_first, library.n_phases - 1):
        rest = library.without(phase)
        again = rest.look(library.sums[[phase]].astype(np.float32))
        if rest.p_values(again.deviate)[0] >= level and again.shares[0, -1] > _LEAST_SHARE:
            found.append(phase)
    return found
