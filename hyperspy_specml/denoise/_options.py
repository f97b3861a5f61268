"""What is asked of a denoising, and options of the networks."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.prepare import CORRUPTIONS
from hyperspy_specml.statistics import NOISE_NAMES

if TYPE_CHECKING:
    from typing import Self

CONTEXTS = ("auto", "spectral", "spatial")


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


@dataclass(frozen=True)
class Asked:
    """What is asked of a denoising.

    Parameters
    ----------
    context
        "spectral": candidates that see one spectrum at a time; "spatial": those that see its neighbours;
        "auto": all.
    corruption
        How inputs for the networks are made: see `CORRUPTIONS`.
    noise
        See `statistics.estimate_noise`.
    protect
        Whether removed signal that noise cannot explain is restored.
    options
        Of the networks.

    Raises
    ------
    OptionError
        Unknown context, corruption or noise, or options of another class.
    """

    context: str = "auto"
    corruption: str = "split"
    noise: str = "auto"
    protect: bool = True
    options: DenoiseOptions = field(default_factory=DenoiseOptions)

    def __post_init__(self) -> None:
        """Refuse what is wrong before the file is read."""
        for name, known in {"context": CONTEXTS, "corruption": CORRUPTIONS, "noise": NOISE_NAMES}.items():
            if getattr(self, name) not in known:
                raise OptionError.unknown(name, getattr(self, name), known)
        DenoiseOptions.checked(self.options, "denoise_dae")
