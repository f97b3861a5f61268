"""One progress for every long call: named stages with known shares of the whole, cancelled from any thread.

A call enters stages in order. Each takes a share of the stage around it, known before it begins, so the fraction
of the whole that is done rises from 0 to 1 and never falls.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STOPPED = (Cancelled, KeyboardInterrupt)  # both end a training, which keeps its best network so far


class Progress:
    """How far a call has come, and the way to end it. This one shows nothing: override `show` to see it.

    Pass one as ``s.decomposition_ae(show_progressbar=progress)``, from a worker thread of a widget for example,
    and call `cancel` from any other thread. Use a new one for every call.

    Attributes
    ----------
    fraction
        Part of the whole call that is done, 0 to 1.
    stage
        What is being done, such as "Train"; empty between stages.
    curves
        What was measured on the way, by name: points (x, y), such as the held-out score at each step of a training.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> progress = specml.Progress()
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=progress)
    >>> progress.fraction
    1.0
    """

    def __init__(self) -> None:
        self.fraction, self.stage = 0.0, ""
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self._inside = (0.0, 1.0)  # the part of the whole that the current stage takes
        self._asked = threading.Event()

    def show(self) -> None:
        """Show the new `fraction` or `stage`; called in the thread of the call, and may call `cancel`."""

    def cancel(self) -> None:
        """Ask the call to end, from any thread.

        A training then keeps its best network so far, and the call goes on to its result with it; anything else
        raises `Cancelled`. Asked once more, the rest of the call ends too.
        """
        self._asked.set()

    @contextmanager
    def enter(self, stage: str, share: float = 1.0) -> Iterator[None]:
        """Be in a stage.

        Parameters
        ----------
        stage
            Its name, for people.
        share
            Of the stage around it (at first the whole call), 0 to 1, from where that stands now.

        Raises
        ------
        Cancelled
            That was asked for, and no training caught it.
        """
        outer, name = self._inside, self.stage
        stop = min(outer[1], self.fraction + share * (outer[1] - outer[0]))
        self._inside, self.stage = (self.fraction, stop), stage
        try:
            self.advance(0)
            yield
            self.advance(1)
        finally:
            self._inside, self.stage = outer, name

    def advance(self, done: float) -> None:
        """Say how much of the current stage is done.

        Parameters
        ----------
        done
            0 to 1.

        Raises
        ------
        Cancelled
            That was asked for since the last call.
        """
        start, stop = self._inside
        self.fraction = max(self.fraction, start + min(done, 1) * (stop - start) if done < 1 else stop)
        self.show()
        if self._asked.is_set():
            self._asked.clear()
            raise Cancelled(f"cancelled in the stage {self.stage!r}, {self.fraction:.0%} of the call done.")

    def record(self, curve: str, x: float, y: float) -> None:
        """Add a point to one of the `curves`.

        Parameters
        ----------
        curve
            Its name, for people.
        x, y
            Such as a step and its held-out score.
        """
        self.curves.setdefault(curve, []).append((x, y))

    def steps(self, steps: Sequence[int]) -> Iterator[int]:
        """Yield steps, each an equal part of the current stage.

        Parameters
        ----------
        steps
            Such as a range.
        """
        for done, step in enumerate(steps, start=1):
            yield step
            self.advance(done / len(steps))


class ProgressBar(Progress):
    """Progress in a bar of tqdm.

    Parameters
    ----------
    bar
        From 0 to ``bar.total``, in any of tqdm's forms.
    line
        A second one, below it, whose description says what is being done; by default the bar's own does.
    """

    def __init__(self, bar: Any, line: Any = None) -> None:
        super().__init__()
        self.bar, self.line, self._described = bar, bar if line is None else line, ""

    def show(self) -> None:
        """Move the bar; a bar that ends a rounding error before its end would be red in notebooks, as if it failed."""
        if self.stage != self._described:
            self.line.set_description_str(self.stage, refresh=self.line is not self.bar)
            self._described = self.stage
        self.bar.update(self.fraction * self.bar.total - self.bar.n)
        if self.fraction == 1:
            self.bar.n = self.bar.total
            self.bar.refresh()
