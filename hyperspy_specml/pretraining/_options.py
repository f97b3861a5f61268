"""Options of the objectives and of the adapters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real

from hyperspy_specml.exceptions import OptionError

_SCORED, _ERRORS = ("hidden", "all"), ("squared", "counts")
_MODULES = ("qkv", "out", "up", "down")


@dataclass(frozen=True)
class Masking:
    """What the masked objective hides of a spectrum, and how it judges what the network says instead.

    Parameters
    ----------
    hidden : float
        Part of the patches that are hidden, above 0 and below 1.
    scored : str
        "hidden" patches, as published, or "all" of them.
    error : str
        "squared" error of the normalised values, as published, or "counts": the Poisson deviance of the counts.

    Raises
    ------
    OptionError
        A value is not possible.

    References
    ----------
    K. He et al., "Masked autoencoders are scalable vision learners", CVPR 2022; W. Cash, Astrophys. J. 228 (1979) 939
    (likelihood of counts).
    """

    hidden: float = 0.75
    scored: str = "hidden"
    error: str = "squared"

    def __post_init__(self) -> None:
        """Refuse values that are not possible."""
        if not isinstance(self.hidden, Real) or not 0 < float(self.hidden) < 1:
            raise OptionError(f"Masking(hidden={self.hidden!r}) needs a number between 0 and 1, e.g. hidden=0.75.")
        for name, value, known in (("scored", self.scored, _SCORED), ("error", self.error, _ERRORS)):
            if value not in known:
                raise OptionError.unknown(f"Masking({name}=...)", value, known)


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters: products of two narrow matrices beside layers of the attention; only they are trained.

    Parameters
    ----------
    rank : int
        Width of the matrices.
    alpha : float
        The product is multiplied by ``alpha / rank``.
    target_modules : tuple of str
        Layers of every block: "qkv" and "out" of the attention, "up" and "down" behind it.

    Raises
    ------
    OptionError
        A value is not possible.

    References
    ----------
    E. J. Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022.
    """

    rank: int = 4
    alpha: float = 8.0
    target_modules: tuple[str, ...] = ("qkv", "out")

    def __post_init__(self) -> None:
        """Refuse values that are not possible."""
        if not isinstance(self.rank, Integral) or self.rank < 1:
            raise OptionError(f"LoraOptions(rank={self.rank!r}) needs a whole number from 1, e.g. rank=4.")
        if not isinstance(self.alpha, Real) or not 0 < float(self.alpha) < float("inf"):
            raise OptionError(f"LoraOptions(alpha={self.alpha!r}) needs a positive number, e.g. alpha=8.")
        named = isinstance(self.target_modules, Iterable) and not isinstance(self.target_modules, str)
        if not named or not self.target_modules:
            raise OptionError(
                f"LoraOptions(target_modules={self.target_modules!r}) needs names of layers, "
                "e.g. target_modules=('qkv', 'out')."
            )
        for one in self.target_modules:
            if one not in _MODULES:
                raise OptionError.unknown("LoraOptions(target_modules=...)", one, _MODULES)
