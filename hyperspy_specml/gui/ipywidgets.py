"""The view of every tool in notebooks. HyperSpy may load this without the GUI packages: functions import them."""

from __future__ import annotations

import functools
import html
import math
import threading
from typing import TYPE_CHECKING, Any

from hyperspy_specml.gui._guard import with_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.gui._tool import Control, Tool

# Styles of buttons that stand out.
_STYLES = {"run": "primary", "cancel": "warning"}
# Seconds until the page is reminded of a picture that it has not asked for, and how often.
_LATER, _REMINDERS = 0.4, 20
_WIDE = {"description_width": "initial"}


def view(obj: Tool, display: bool = True) -> dict[str, Any] | None:
    """Show a tool, or return its widgets by name as HyperSpy's tools do.

    Parameters
    ----------
    obj
        The tool.
    display
        Whether to show it.

    Returns
    -------
    None, or ``{"widget": box, "wdict": widgets by name}``
    """
    import IPython.display

    found = _View(obj)
    if not display:
        return {"widget": found.box, "wdict": found.widgets}
    IPython.display.display(found.box)
    return None


class _View:
    """The widgets of one tool."""

    def __init__(self, tool: Tool) -> None:
        import ipywidgets as w

        self.tool = tool
        self.widgets: dict[str, Any] = {}
        wrapped = w.Layout(flex_flow="row wrap")
        parts = [w.HBox([self._control(tool, control) for control in tool.parameters], layout=wrapped)]
        if hasattr(tool, "form"):
            parts.append(self._form(wrapped))
        parts.append(w.HBox([self._button(action) for action in tool.actions], layout=wrapped))
        if hasattr(tool, "fraction"):
            parts.append(w.HBox([self._progress(), self._text("stage", w.Label())]))
        parts.append(self._text("message", w.HTML(), _message))
        parts.append(w.HBox([self._control(tool, control) for control in tool.controls], layout=wrapped))
        parts.append(self._canvas())
        if tool.table:
            parts.append(self._rows())
        summary = w.Accordion([self._text("summary", w.HTML(), _preformatted)], titles=("Report",))
        parts.append(summary)
        self.box = w.VBox(parts)
        self.box.add_class("specml-tool")
        self._follow("closed", lambda closed: self.box.close() if closed else None)

    def _named(self, name: str, widget: Any) -> Any:
        """Keep a widget under a name that tests and style sheets find too."""
        self.widgets[name] = widget
        widget.add_class(f"specml-{name}")
        return widget

    def _follow(self, name: str, show: Callable[[Any], None]) -> None:
        """Call a function with a trait's value, now and after each change."""
        self.tool.observe(lambda event: show(event.new), name)
        show(getattr(self.tool, name))

    def _control(self, owner: Any, control: Control) -> Any:
        widget = self._named(control.name, _input(owner, control))
        if control.most:
            self._follow(control.most, functools.partial(setattr, widget, "max"))
        if control.least:
            self._follow(control.least, functools.partial(setattr, widget, "min"))

        def typed(_: Any) -> None:
            # Not the value of this change: a thread that comes late would put an old one in the place of a new one.
            try:
                setattr(owner, control.name, widget.value)
            except Exception as error:  # out of range, or what the change sets off
                self.tool.failed(error)
                widget.value = getattr(owner, control.name)

        widget.observe(typed, "value")
        owner.observe(lambda _: setattr(widget, "value", getattr(owner, control.name)), control.name)
        return widget

    def _form(self, layout: Any) -> Any:
        import ipywidgets as w

        box = w.HBox(layout=layout)

        def show(form: Any) -> None:
            box.children = [self._control(form, control) for control in form.controls]

        self._follow("form", show)
        return w.Accordion([box], titles=("Options",))

    def _button(self, action: Any) -> Any:
        import ipywidgets as w

        look = {"button_style": _STYLES.get(action.name, ""), "layout": w.Layout(width="auto")}
        button = w.Button(description=action.label, tooltip=action.hint, **look)
        button.on_click(lambda _: self.tool.do(action.name))
        if action.needs:
            self._follow(action.needs, lambda _: setattr(button, "disabled", not self.tool.ready(action)))
        return self._named(f"{action.name}_button", button)

    def _progress(self) -> Any:
        import ipywidgets as w

        bar = self._named("fraction", w.FloatProgress(min=0, max=1))
        self._follow("fraction", functools.partial(setattr, bar, "value"))
        return bar

    def _text(self, name: str, widget: Any, form: Callable[[str], str] = str) -> Any:
        self._follow(name, lambda text: setattr(widget, "value", form(text)))
        return self._named(name, widget)

    def _canvas(self) -> Any:
        tool = self.tool
        with tool.lock:
            canvas = _canvas_class()(tool.figure)
            canvas.attach(tool)
        self._follow("drawn", lambda _: canvas.send_picture())
        return self._named("canvas", canvas)

    def _rows(self) -> Any:
        import ipywidgets as w

        table = w.Select(options=[], rows=6, layout=w.Layout(width="auto"))
        style = w.HTML("<style>.specml-rows select {font-family: monospace}</style>")
        # As far from the left, and as large, as the lines of the table.
        heading = "<pre style='margin: 0 0 0 5px; line-height: normal; font-size: var(--jp-widgets-font-size)'>{}</pre>"
        head = self._text("heading", w.HTML(), lambda text: heading.format(html.escape(text)))

        def show(rows: list[str]) -> None:
            table.options = [(row, i) for i, row in enumerate(rows)]
            table.value = None

        self._follow("rows", show)
        self._follow("row", lambda row: setattr(table, "value", row if row in range(len(table.options)) else None))
        table.observe(lambda change: setattr(self.tool, "row", -1 if change.new is None else change.new), "value")
        return w.VBox([style, head, self._named("rows", table)])


def _input(owner: Any, control: Control) -> Any:
    """Return the widget for a trait, by its kind."""
    import ipywidgets as w

    value, low, high = with_limits(owner, control.name)
    words: dict[str, Any] = {"value": value, "description": control.label, "style": _WIDE}
    choices = getattr(owner, "choices", {}).get(control.name)
    if choices is not None:
        return w.Dropdown(options=list(choices), **words)
    if isinstance(value, bool):
        return w.Checkbox(indent=False, **words)
    if control.most:
        least = getattr(owner, control.least) if control.least else 0
        return w.IntSlider(min=least, max=max(value, getattr(owner, control.most)), **words)
    if control.logarithmic:
        return w.FloatLogSlider(
            min=math.log10(low), max=math.log10(high), readout_format=".4f", continuous_update=False, **words
        )
    if isinstance(value, int):
        return w.IntText(**words) if low is None else w.BoundedIntText(min=low, max=high, **words)
    # A text is sent when it is complete: a page holds single letters back while the kernel is busy, but not clicks.
    return w.FloatText(**words) if isinstance(value, float) else w.Text(continuous_update=False, **words)


def _message(text: str) -> str:
    return f"<b>{html.escape(text)}</b>" if text else ""


def _preformatted(text: str) -> str:
    return f"<pre style='line-height: 1.3; overflow-x: auto'>{html.escape(text)}</pre>"


@functools.cache
def _canvas_class() -> type:
    """Return ipympl's canvas with a lock: its messages come in any thread, and matplotlib knows no threads."""
    from ipympl.backend_nbagg import Canvas, FigureManager

    class LockedCanvas(Canvas):
        def attach(self, tool: Tool) -> None:
            self.lock, self.overlay = tool.lock, tool.overlay
            FigureManager(self, 0)
            # Known before the page asks: a page that hears of it after its first picture keeps a canvas of no size.
            self._size = tuple(float(pixels) for pixels in self.get_width_height())
            self.toolbar_visible = self.header_visible = self.footer_visible = self.resizable = False

        def draw(self) -> None:
            with self.lock:
                if self.overlay.draw():
                    self.blit()
                else:
                    super().draw()

        def send_picture(self, reminders: int = _REMINDERS) -> None:
            """Let the page ask for the picture; it forgets that while it waits for another one, so remind it."""
            self.stale = True
            self.draw_idle()
            if reminders and not self.syncing_data_url:  # before, there is no page yet
                timer = threading.Timer(_LATER, self._remind, [reminders - 1])
                timer.daemon = True
                timer.start()

        def get_diff_image(self) -> bytes | None:
            """Return the whole picture: the page drops one that it is still decoding when the next one comes.

            A difference to a picture that was dropped would be drawn on an empty canvas.
            """
            self._force_full = True
            return super().get_diff_image()

        def _remind(self, reminders: int) -> None:
            if self.stale:
                self.send_picture(reminders)

        def _handle_message(self, *message: Any) -> None:
            with self.lock:
                # Who writes is there. Messages come in several threads, so that this may overtake "initialized", and a
                # picture that is sent as part of the state before that breaks the page's canvas.
                self.syncing_data_url = False
                if message[1]["type"] == "draw":
                    self.stale = False
                super()._handle_message(*message)

    return LockedCanvas
