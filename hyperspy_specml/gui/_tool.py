"""What all tools are: state that views show, a figure, and a worker thread on a snapshot of the signal."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import traits.api as t
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hyperspy_specml.exceptions import Cancelled
from hyperspy_specml.gui._overlay import Overlay
from hyperspy_specml.gui._warnings import collected
from hyperspy_specml.progress import Progress
from hyperspy_specml.results import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes

_logger = logging.getLogger(__name__)

# Signals are compared by identity: `==` would compare their values.
SAME = t.ComparisonMode.identity
# Seconds between two pictures of a computation, and between two changes of its numbers.
_PICTURE, _NUMBERS = 1.0, 0.25
# Part of a computation from which its time tells how long the rest takes.
_ENOUGH = 0.05
# Pixels per inch and inches of the figure: as wide as a notebook.
_DPI, _SIZE = 80, (11.5, 5.6)


class Action(NamedTuple):
    """A button.

    Attributes
    ----------
    name
        Of the method that it calls.
    label, hint
        What it says, and what it says it does.
    needs
        Trait that has to be true (or not None); "" where it always works.
    """

    name: str
    label: str
    hint: str
    needs: str = ""


class Control(NamedTuple):
    """A trait that one sets by hand.

    Attributes
    ----------
    name, label
        Of the trait, and what stands before it.
    most, least
        Traits with its largest and its smallest value, for a slider; without the latter it begins at 0, without
        the first there is none.
    logarithmic
        Whether equal steps of a slider are equal factors.
    """

    name: str
    label: str
    most: str = ""
    logarithmic: bool = False
    least: str = ""


class OptionsForm(t.HasTraits):
    """The fields of an options dataclass as traits.

    Parameters
    ----------
    options
        Of a frozen dataclass: numbers, text, True and False can be set, what else there is stays.
    """

    original = t.Any(visible=False, editable=False)
    names = t.List(t.Str(), visible=False, editable=False)

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.original = options
        kinds = {bool: t.Bool, int: t.Int, float: t.Float, str: t.Str}
        self.names = [item.name for item in fields(options) if type(getattr(options, item.name)) in kinds]
        for name in self.names:
            value = getattr(options, name)
            self.add_trait(name, kinds[type(value)](value))

    def options(self) -> Any:
        """Return the options as they are set; their class checks them."""
        every = {item.name: getattr(self.original, item.name) for item in fields(self.original)}
        return type(self.original)(**every | {name: getattr(self, name) for name in self.names})

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls of all fields."""
        return tuple(Control(name, name.removeprefix("n_").replace("_", " ")) for name in self.names)


class Tool(t.HasTraits):
    """A tool on one signal. Views show its traits; nothing here knows a GUI toolkit.

    Parameters
    ----------
    signal
        Only read, but by a button that says so. Its navigator is followed, and moved by a click on a map.

    Attributes
    ----------
    message
        What the user should know: errors, warnings, what a button did.
    summary
        What was found, in words.
    heading, rows, row
        Head and lines of a table, in a font of one width, and the selected line; -1 for none.
    figure, drawn
        What is shown, and a number that changes with it. `lock` has to be held while either is used.
    parameters, controls
        What is set before a computation, and what changes the picture of its result.
    """

    title: ClassVar[str] = ""
    parameters: ClassVar[tuple[Control, ...]] = ()
    controls: ClassVar[tuple[Control, ...]] = ()
    actions: ClassVar[tuple[Action, ...]] = (Action("close", "Close", "End the tool"),)
    table: ClassVar[str] = ""  # what the rows are; "" where there are none

    message = t.Str()
    summary = t.Str()
    heading = t.Str()
    rows = t.List(t.Str())
    row = t.Int(-1)
    window = t.Any()  # of a view
    drawn = t.Int(0)
    closed = t.Bool(False)

    def __init__(self, signal: BaseSignal) -> None:
        super().__init__(heading=self.table)
        self.signal, self.lock = signal, threading.RLock()
        self.figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(self.figure)  # a view puts its own in its place
        self.overlay = Overlay(self.figure)
        self._maps: list[Axes] = []  # a click on one goes to the pixel
        self.figure.canvas.mpl_connect("button_press_event", self._clicked)
        signal.axes_manager.events.indices_changed.connect(self.moved, [])

    def __repr__(self) -> str:
        """Say how to go on from here: what a notebook prints below the tool."""
        return f"<{type(self).__name__} of {self.name}>"

    @property
    def name(self) -> str:
        """Title of the signal."""
        return self.signal.metadata.get_item("General.title", "") or type(self.signal).__name__

    @property
    def pixel(self) -> tuple[int, ...]:
        """Indices (x, y ...) of the current pixel of the signal."""
        return tuple(int(index) for index in self.signal.axes_manager.indices)

    def open(self, display: bool = True, toolkit: Any = None) -> Any:
        """Show the tool, and return it; or return what HyperSpy's ``gui(display=False)`` returns."""
        shown = self.gui(display=display, toolkit=toolkit)  # type: ignore[attr-defined]
        return self if display else shown

    def ready(self, action: Action) -> bool:
        """Return whether a button does something now."""
        found = getattr(self, action.needs) if action.needs else True
        return found is not None and found is not False and not self.closed

    def do(self, name: str) -> None:
        """Do what a button says; what goes wrong, or should be known, becomes a message."""
        try:
            with collected() as warned:
                getattr(self, name)()
            self.message = " ".join(filter(None, [self.message, *warned]))
        except Exception as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Say what went wrong."""
        _logger.info("%r", self, exc_info=error)
        self.message = f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """End the tool: it follows the signal no longer."""
        events = self.signal.axes_manager.events.indices_changed
        if self.moved in events.connected:
            events.disconnect(self.moved)
        self.closed = True

    @contextmanager
    def drawing(self, *, over: bool = False) -> Iterator[None]:
        """Change the figure, while no other thread does; views show it afterwards.

        Parameters
        ----------
        over
            Whether only the overlay changes.
        """
        with self.lock:
            yield
            if not over:
                self.overlay.forget()
        self.drawn += 1

    def draw(self) -> None:
        """Draw the figure anew."""
        with self.drawing():
            self.figure.clear()
            self._maps, self.overlay.artists = [], []
            self.fill(self.figure)

    def fill(self, figure: Figure) -> None:
        """Draw into an empty figure; axes in `_maps` are maps of the signal."""
        raise NotImplementedError

    def fill_pixel(self) -> None:
        """Draw again what belongs to the current pixel."""

    def moved(self) -> None:
        """Follow the navigator of the signal."""
        if not self.closed:
            with self.drawing():
                self.mark_pixel()
                self.fill_pixel()

    def mark_pixel(self) -> None:
        """Mark the current pixel on every map."""
        place = (*self.signal.axes_manager.coordinates, 0.0)
        for axes in self._maps:
            for old in [line for line in axes.lines if line.get_gid() == "pixel"]:
                old.remove()
            at = ([place[0]], [place[1]]) if axes.images else ([place[0]] * 2, axes.get_ylim())
            axes.plot(*at, "+-" if not axes.images else "+", color="red", gid="pixel", scalex=False, scaley=False)

    def go_to(self, *place: float) -> None:
        """Move the navigator of the signal to a place (x, y ...) in units of the scan axes."""
        manager = self.signal.axes_manager
        inside = [np.clip(value, *sorted((a.axis[0], a.axis[-1]))) for value, a in zip(place, self._scan, strict=False)]
        indices = [int(axis.value2index(value)) for value, axis in zip(inside, self._scan, strict=False)]
        manager.indices = tuple(indices) + tuple(manager.indices[len(indices) :])

    @property
    def _scan(self) -> tuple[Any, ...]:
        return self.signal.axes_manager.navigation_axes

    def _clicked(self, event: Any) -> None:
        if event.inaxes in self._maps and event.xdata is not None:
            self.go_to(event.xdata, event.ydata)

    @property
    def pixel_label(self) -> str:
        """Label of the current pixel's spectrum."""
        return f"{amount(self.signal)} of pixel {', '.join(map(str, self.pixel))}"

    def pixel_counts(self) -> np.ndarray:
        """Return the (E,) spectrum of the current pixel."""
        return np.asarray(self.signal.inav[self.pixel].data)


class ToolProgress(Progress):
    """Progress that a tool shows.

    Parameters
    ----------
    tool
        Follows it.
    """

    def __init__(self, tool: RunTool) -> None:
        super().__init__()
        self.tool, self.start, self.cancelled = tool, time.monotonic(), False
        self._numbers = self._picture = 0.0
        self._points = 0  # of the curves, when they were drawn last

    def show(self) -> None:
        """Pass numbers on some times a second, and the picture less often."""
        now = time.monotonic()
        if now - self._numbers > _NUMBERS or self.fraction == 1:
            self._numbers = now
            self.tool.follow(self, now - self.start)
        points = sum(map(len, self.curves.values()))
        if now - self._picture > _PICTURE and points > self._points:
            self._picture, self._points = now, points
            self.tool.draw()


class RunTool(Tool):
    """A tool that computes: in a thread, on a snapshot of the signal, cancelled at any time.

    Parameters
    ----------
    signal
        See `Tool`.
    **arguments
        Of the method, for what the tool has no control of its own.

    Attributes
    ----------
    running, idle
        Whether a computation is under way, or none.
    fraction, stage
        How far it is, 0 to 1, and what is being done, with the time that is left.
    result
        What the method returned last; None before.
    """

    actions = (
        Action("run", "Run", "Compute on a snapshot of the signal", "idle"),
        Action("cancel", "Cancel", "Stop; the best so far is kept", "running"),
        *Tool.actions,
    )
    running = t.Bool(False)
    idle = t.Property(t.Bool, observe="running")
    fraction = t.Float(0.0)
    percent = t.Property(t.Int, observe="fraction")
    stage = t.Str()
    result = t.Any(comparison_mode=SAME)

    def __init__(self, signal: BaseSignal, **arguments: Any) -> None:
        super().__init__(signal)
        self.arguments = arguments
        self.progress: ToolProgress | None = None
        self.computed = False  # whether the result is there, and only has to be shown
        self._thread: threading.Thread | None = None
        self._changing = threading.RLock()  # what is being computed

    def __repr__(self) -> str:
        """Say how to go on from here."""
        return f"<{type(self).__name__} of {self.name}; its .result is what the method returns>"

    def _get_percent(self) -> int:
        return round(100 * self.fraction)

    def _get_idle(self) -> bool:
        return not self.running

    def compute(self, snapshot: BaseSignal, progress: Progress) -> Any:
        """Call the method on the snapshot and return its result."""
        raise NotImplementedError

    def show_result(self) -> None:
        """Set summary, table and limits of sliders, and draw."""
        self.draw()

    def run(self) -> None:
        """Begin to compute, unless that is under way."""
        self.start(self.compute)

    def start(self, compute: Callable[[BaseSignal, Progress], Any]) -> None:
        """Begin a computation whose answer becomes the result.

        Parameters
        ----------
        compute
            Called in the worker thread with the snapshot and the progress.
        """
        with self._changing:
            if self.running:
                return
            progress = self.progress = ToolProgress(self)  # before anybody can cancel it
            self.running, self.message, self.fraction, self.stage = True, "", 0.0, "Begin"
        try:
            # A copy of the axes and metadata, made here: meanwhile HyperSpy takes the data out of the signal.
            snapshot = self.signal._deepcopy_with_new_data(self.signal.data)
            self._thread = threading.Thread(target=self._work, args=(compute, snapshot, progress), daemon=True)
            self._thread.start()
        except BaseException:
            self.running = False
            raise

    def _work(self, compute: Callable[[BaseSignal, Progress], Any], snapshot: BaseSignal, progress: Progress) -> None:
        end = "Failed"
        try:
            with collected() as warned:
                result = compute(snapshot, progress)
            self.result, self.message, self.computed = result, " ".join(warned), True
            self.show_result()
            end = "Done"
        except Cancelled as error:
            end, self.message = "Cancelled", f"{error} There was nothing to keep yet."
        except Exception as error:
            self.failed(error)
        finally:
            with self._changing:  # a cancel that comes now finds nothing to cancel, and the stage stays
                self.stage, self.running, self.computed = end, False, False
        self.finished()

    def finished(self) -> None:
        """Go on after a computation, in its thread."""

    def cancel(self) -> None:
        """Ask the computation to end."""
        with self._changing:
            if self.running and self.progress is not None:
                self.progress.cancel()
                self.progress.cancelled = True
                self.stage = f"Cancelling: {self.stage}"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being computed, at most so many seconds; return whether that is so."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.running

    def close(self) -> None:
        """End the tool and what it computes."""
        self.cancel()
        super().close()

    def follow(self, progress: ToolProgress, seconds: float) -> None:
        """Show how far a computation is, after so many seconds."""
        self.fraction = progress.fraction
        if progress.stage and progress.cancelled:
            self.stage = f"Cancelling: {progress.stage}"
        elif progress.stage:
            left = seconds / progress.fraction - seconds if progress.fraction > _ENOUGH else None
            self.stage = progress.stage + ("" if left is None else f", about {left:.0f} s left")
