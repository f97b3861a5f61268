"""Options of the networks that denoise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class _Options:
    """Options that are whole numbers of at least one, or True and False."""

    def __post_init__(self) -> None:
        """Refuse what would fail later, with a message that says which."""
        for option in fields(self):
            value: Any = getattr(self, option.name)
            kind: Any = type(option.default)
            if type(value) is not kind or (kind is int and value < 1):
                needed = "True or False" if kind is bool else "a whole number, 1 or more"
                call = f"{type(self).__name__}({option.name}=...)"
                raise OptionError(f"{call} must be {needed}, e.g. {option.default!r}, not {value!r}.")

    @classmethod
    def checked(cls, options: Self | None, method: str) -> Self:
        """Return options, by default the default ones; refuse those of another class."""
        options = cls() if options is None else options
        if type(options) is not cls:
            raise OptionError(f"{method}(options={options!r}) needs options=specml.{cls.__name__}(...).")
        return options


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions(_Options):
    """Options of ``s.denoise_dae()``.

    Parameters
    ----------
    centre
        Whether PCA and networks describe spectra about the mean spectrum.
    n_hidden, n_layers
        Units and number of the hidden layers of encoder and decoder of the spectral network.
    n_hidden_spatial
        Channels of the hidden layers of the spatial network.

    Raises
    ------
    OptionError
        A number is not a whole one, or smaller than one.
    """

    centre: bool = False
    n_hidden: int = 64
    n_layers: int = 2
    n_hidden_spatial: int = 16


@dataclass(frozen=True, kw_only=True)
class LibraryOptions(_Options):
    """Options of ``specml.train_denoiser()``.

    Parameters
    ----------
    n_hidden, n_layers
        Units and number of the hidden layers of the network.

    Raises
    ------
    OptionError
        A number is not a whole one, or smaller than one.
    """

    n_hidden: int = 128
    n_layers: int = 3
