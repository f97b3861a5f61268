"""What the methods have in common: one call on one signal, checked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.signals import Source, spectra_of
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from hyperspy.signal import BaseSignal


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a method.

    Attributes
    ----------
    signal
        What the method was called on; never written to.
    source
        Its spectra, with the user's masks, and what results are made like.
    config
        Settings.
    show_progressbar
        Whether progress is shown.
    """

    signal: BaseSignal
    source: Source
    config: TrainConfig
    show_progressbar: bool

    @classmethod
    def on(
        cls,
        signal: BaseSignal,
        *,
        method: str,
        navigation_mask: BaseSignal | np.ndarray | None,
        signal_mask: BaseSignal | np.ndarray | None,
        config: TrainConfig | None,
        show_progressbar: bool | None,
    ) -> Call:
        """Check what every method is given.

        Raises
        ------
        OptionError, DataTypeError, SpectraRequiredError, NavigationRequiredError, MaskError
            See `spectra_of`; `config` is not a TrainConfig.
        """
        import hyperspy.api as hs

        if config is not None and not isinstance(config, TrainConfig):
            raise OptionError(
                f"{method}(config={config!r}) must be a TrainConfig, e.g. specml.TrainConfig(max_steps=1000)."
            )
        spectra = spectra_of(signal, method=method, navigation_mask=navigation_mask, signal_mask=signal_mask)
        if show_progressbar is None:
            show_progressbar = hs.preferences.General.show_progressbar
        return cls(signal, Source.of(signal, spectra), config or TrainConfig(), show_progressbar)

    def stream(self) -> SpectrumStream:
        """Return the spectra as a stream."""
        return SpectrumStream(self.source.spectra.array, self.config.memory_budget, self.show_progressbar)

    def track(self, steps: range) -> Iterable[int]:
        """Show training steps in HyperSpy's progress bar."""
        from hyperspy.external.progressbar import progressbar

        return progressbar(steps, desc="Train", leave=False, disable=not self.show_progressbar)


def whole_number(name: str, value: object, *, least: int) -> int:
    """Return an argument as an int of Python.

    Raises
    ------
    OptionError
        It is not a whole number, or smaller than `least`.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the TypeError is the answer
    except TypeError:
        number = least - 1
    if number < least:
        raise OptionError(f"{name}={value!r} must be a whole number, {least} or more.")
    return number
