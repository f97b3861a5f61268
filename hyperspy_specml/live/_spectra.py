"""Spectra that are compared with phases, and what a model expects of each, where there is one.

n spectra, G groups of channels, J windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hyperspy_specml.live._windows import windows_of


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra in groups of channels.

    Attributes
    ----------
    values
        (n, G) values of the law.
    expected
        (n, G) what a model expects of each, in any scale; None where phases alone are known.
    """

    values: np.ndarray
    expected: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, spectra: Spectra | np.ndarray) -> Spectra:
        """Return spectra, which may be values alone."""
        return spectra if isinstance(spectra, Spectra) else cls(spectra)

    def __len__(self) -> int:
        """Return the number of spectra n."""
        return len(self.values)

    def __getitem__(self, index: np.ndarray | slice) -> Spectra:
        """Return some of the spectra."""
        found = Spectra(self.values[index], None if self.expected is None else self.expected[index])
        if "sums" in vars(self):
            vars(found)["sums"] = self.sums[index]
        return found

    def __add__(self, other: Spectra) -> Spectra:
        """Return these spectra and others after them."""
        values = np.concatenate([self.values, other.values])
        if self.expected is None or other.expected is None:
            return Spectra(values)
        return Spectra(values, np.concatenate([self.expected, other.expected]))

    def together(self) -> Spectra:
        """Return the sum of all spectra, as one."""
        expected = None if self.expected is None else self.expected.sum(axis=0, keepdims=True)
        return Spectra(self.values.sum(axis=0, keepdims=True), expected)

    @cached_property
    def sums(self) -> np.ndarray:
        """(n, J) sums over windows of energy."""
        return windows_of(self.values.shape[1]).sums(self.values)

    @cached_property
    def totals(self) -> np.ndarray:
        """(n, 1) sums over all groups."""
        return self.values.sum(axis=1, keepdims=True)
