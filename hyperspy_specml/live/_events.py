"""What a monitor tells of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Something happened.

    Attributes
    ----------
    time
        Seconds since the monitor was made or resumed.
    n_spectra
        Received so far.
    """

    time: float
    n_spectra: int


@dataclass(frozen=True)
class NewPhase(Event):
    """Spectra that no phase known so far explains, nor a mixture of them.

    Attributes
    ----------
    phase
        Its number from now on.
    position
        Pixel (x, y) that shows it most clearly.
    p_value
        Of that pixel, for the whole scan (0 to 1); of phases found by held-out counts NaN.
    energy, units
        Where its spectrum exceeds those of the other phases most, and the units of the energy axis.
    n_pixels
        That belong to it so far.
    """

    phase: int
    position: tuple[int, ...]
    p_value: float
    energy: float
    n_pixels: int
    units: str = ""

    def __str__(self) -> str:
        """Say it in words."""
        by = f"p = {self.p_value:.1g}" if self.p_value == self.p_value else "by held-out counts"
        return (
            f"after {self.n_spectra} spectra: phase {self.phase} at {self.position}, {self.n_pixels} pixels, {by}, "
            f"strongest excess at {self.energy:.4g} {self.units}".rstrip()
        )


@dataclass(frozen=True)
class Damage(Event):
    """Counts in a window of energy decay or grow with the dose, not by drift or intensity.

    Attributes
    ----------
    frame
        Number of frames that showed it.
    energy, width, units
        Centre and width of the window, and the units of the energy axis.
    rate
        Relative change of the window per frame; negative for a loss.
    elements
        With lines in the window, the likeliest first.
    p_value
        For 40 frames and all windows.
    """

    frame: int
    energy: float
    width: float
    rate: float
    elements: tuple[str, ...]
    p_value: float
    units: str = ""

    def __str__(self) -> str:
        """Say it in words."""
        names = f" ({', '.join(self.elements)})" if self.elements else ""
        rate, at = f"{100 * self.rate:+.2g} % per frame", f"{self.energy:.4g} {self.units}".rstrip()
        return f"frame {self.frame}: {rate} at {at}{names}, p = {self.p_value:.1g}"


@dataclass(frozen=True)
class EnergyDrift(Event):
    """The energy axis has moved.

    Attributes
    ----------
    frame
        Number of frames.
    shift, error, units
        Of the last frame against the first, its standard error, and the units of the energy axis.
    """

    frame: int
    shift: float
    error: float
    units: str = ""

    def __str__(self) -> str:
        """Say it in words."""
        moved = f"{self.shift:+.3g} ± {self.error:.1g} {self.units}".rstrip()
        return f"frame {self.frame}: the energy axis has moved by {moved}"


@dataclass(frozen=True)
class IntensityChange(Event):
    """All channels together gain or lose: the current, the thickness or the position changes.

    Attributes
    ----------
    frame
        Number of frames.
    ratio
        Counts of the last frame over those of the first.
    """

    frame: int
    ratio: float

    def __str__(self) -> str:
        """Say it in words."""
        return f"frame {self.frame}: {self.ratio:.3g} times the counts of the first frame"
