"""The view of every tool in windows of Qt. HyperSpy may load this without the GUI packages: functions import them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from hyperspy_specml.gui._guard import with_limits

if TYPE_CHECKING:
    from hyperspy_specml.gui._tool import Control, Tool

# Pixels: width and height of a window, and what a table or a form of options adds to the latter.
_SIZE, _MORE = (1100, 760), 140


def view(obj: Tool, display: bool = True) -> Any:
    """Show a tool in a window, or return the tool and its view.

    Parameters
    ----------
    obj
        The tool.
    display
        Whether to show it.

    Returns
    -------
    None, or the tool and its ``traitsui.api.View``
    """
    import hyperspy_gui_traitsui  # noqa: F401  (it has to choose the toolkit before traitsui does)
    from traitsui.api import Item, VGroup, View

    groups = [_row(obj, obj.parameters)]
    if hasattr(obj, "form"):
        groups.append(_form())
    groups.append(_buttons(obj))
    if hasattr(obj, "fraction"):
        groups.append(_progress())
    groups += [_text("message", 48), _row(obj, obj.controls)]
    groups.append(Item("figure", editor=_figure_editor(), show_label=False, springy=True))
    if obj.table:
        groups.append(_rows())
    groups.append(_text("summary", 130))
    # One group: several at the top would become tabs, of which only one is seen.
    height = _SIZE[1] + _MORE * (bool(obj.table) + hasattr(obj, "form"))
    look = {"resizable": True, "width": _SIZE[0], "height": height, "handler": _handler()}
    shown = View(VGroup(*groups), title=f"{obj.title} of {obj.name}", **look)
    if not display:
        return obj, {"view": shown}
    obj.window = obj.edit_traits(view=shown)  # kept: Qt closes what nobody refers to
    return None


def _row(owner: Tool, controls: tuple[Control, ...]) -> Any:
    from traitsui.api import HGroup

    return HGroup(*(_item(owner, control) for control in controls))


def _item(owner: Tool, control: Control) -> Any:
    """Return the item for a trait, by its kind."""
    from traitsui.api import EnumEditor, Item, RangeEditor, TextEditor

    value, low, high = with_limits(owner, control.name)
    choices, words = getattr(owner, "choices", {}).get(control.name), {"label": control.label}
    if choices is not None:
        return Item(control.name, editor=EnumEditor(values=list(choices)), **words)
    if control.most:
        least: dict[str, Any] = {"low_name": control.least} if control.least else {"low": 0}
        slider = RangeEditor(**least, high_name=control.most, mode="slider", is_float=False)
        return Item(control.name, editor=slider, springy=True, **words)
    if control.logarithmic:
        return Item(control.name, editor=RangeEditor(low=low, high=high, mode="logslider"), springy=True, **words)
    if low is not None and not isinstance(value, bool):
        spinner = RangeEditor(low=low, high=high, mode="spinner" if high < 1 << 16 else "text", is_float=False)
        return Item(control.name, editor=spinner, **words)
    if isinstance(value, str):  # a text is passed on when it is complete
        return Item(control.name, editor=TextEditor(auto_set=False, enter_set=True), **words)
    return Item(control.name, **words)


def _form() -> Any:
    from traitsui.api import HGroup, InstanceEditor, Item

    return HGroup(
        Item("form", editor=InstanceEditor(), style="custom", show_label=False), label="Options", show_border=True
    )


def _buttons(tool: Tool) -> Any:
    from traitsui.api import ButtonEditor, HGroup, Item

    for action in tool.actions:
        _add_button(tool, action.name)
    return HGroup(
        *(
            Item(
                f"{action.name}_button", editor=ButtonEditor(label=action.label), show_label=False,
                tooltip=action.hint, enabled_when=_ready(action.needs),
            )
            for action in tool.actions
        )
    )  # fmt: skip


def _ready(needs: str) -> str:
    return f"{needs} is not None and {needs} is not False" if needs else "True"


def _add_button(tool: Tool, name: str) -> None:
    """Give the tool an event that does what a button says."""
    from traits.api import Button

    if f"{name}_button" not in tool.trait_names():
        tool.add_trait(f"{name}_button", Button())
        tool.observe(lambda event: tool.do(name), f"{name}_button")


def _progress() -> Any:
    from traitsui.api import HGroup, Item, ProgressEditor

    bar = ProgressEditor(min=0, max=100)
    return HGroup(Item("percent", editor=bar, show_label=False), Item("stage", style="readonly", show_label=False))


def _rows() -> Any:
    from traitsui.api import Item, ListStrEditor

    words: dict[str, Any] = {"selected_index": "row", "editable": False, "operations": [], "auto_add": False}
    editor = ListStrEditor(title_name="heading", **words)
    return Item("rows", editor=editor, show_label=False, height=-130)


def _text(name: str, height: int) -> Any:
    """Return a text of a fixed height in pixels: one that may grow takes the room of the figure."""
    from traitsui.api import Item, TextEditor

    editor = TextEditor(read_only=True)
    size: Any = {"height": -height, "width": -_SIZE[0] + 20, "resizable": False}
    return Item(name, style="custom", editor=editor, show_label=False, **size)


@functools.cache
def _handler() -> Any:
    """Return the handler that ends the tool with its window, and its window with the tool."""
    from pyface.qt.QtCore import Qt
    from pyface.qt.QtGui import QFontDatabase
    from pyface.qt.QtWidgets import QAbstractItemView, QHeaderView, QTextEdit
    from traitsui.api import Handler

    class ToolHandler(Handler):
        def init(self, info: Any) -> bool:
            for kind in (QTextEdit, QAbstractItemView):  # tables and reports
                for widget in info.ui.control.findChildren(kind):
                    widget.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
            for heading in info.ui.control.findChildren(QHeaderView):
                heading.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
            return True

        def object_closed_changed(self, info: Any) -> None:
            if info.initialized and info.object.closed:
                info.ui.dispose()

        def closed(self, info: Any, is_ok: bool) -> None:
            if not info.object.closed:
                info.object.close()

    return ToolHandler()


@functools.cache
def _figure_editor() -> Any:
    """Return the editor that shows a tool's figure on a canvas of Qt."""
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from traitsui.basic_editor_factory import BasicEditorFactory
    from traitsui.qt.editor import Editor

    class LockedCanvas(FigureCanvasQTAgg):
        """A worker changes the figure while Qt paints it."""

        tool: Tool

        def draw(self) -> None:
            with self.tool.lock:
                if self.tool.overlay.draw():
                    self.update()
                else:
                    super().draw()

    class FigureEditor(Editor):
        def init(self, parent: Any) -> None:
            tool = self.object
            with tool.lock:
                self.control = LockedCanvas(self.value)
                self.control.tool = tool
            self.control.setMinimumHeight(int(self.value.bbox.height))
            tool.observe(self._redraw, "drawn", dispatch="ui")

        def _redraw(self, event: Any) -> None:
            if self.control is not None:
                self.control.draw_idle()

        def update_editor(self) -> None:
            self._redraw(None)

        def dispose(self) -> None:
            self.object.observe(self._redraw, "drawn", dispatch="ui", remove=True)
            super().dispose()

    class FigureEditorFactory(BasicEditorFactory):
        klass = FigureEditor

    return FigureEditorFactory()
