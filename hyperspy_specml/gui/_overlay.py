"""What is drawn over a finished picture: while nothing below it changes, nothing below it is drawn again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


class Overlay:
    """Artists over a figure, for what has to follow the mouse.

    Parameters
    ----------
    figure
        Drawn as ever; the picture is kept, and the artists are drawn over it.

    Attributes
    ----------
    artists
        Those of the figure that are animated: matplotlib leaves them out, but not where it saves a picture.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.artists: list[Artist] = []
        self._below: tuple[Any, Any, Any] | None = None  # canvas, its size, its picture without the artists
        figure.canvas.mpl_connect("draw_event", self._drawn)

    def forget(self) -> None:
        """Forget the picture: the figure below the artists has changed."""
        self._below = None

    def draw(self) -> bool:
        """Draw the artists over the picture that is kept; return whether there is one of this canvas and size."""
        canvas: Any = self.figure.canvas
        if self._below is None or self._below[:2] != (canvas, canvas.get_width_height(physical=True)):
            return False
        canvas.restore_region(self._below[2])
        self._draw_artists()
        return True

    def _drawn(self, event: Any) -> None:
        canvas = event.canvas
        if not canvas.is_saving():
            picture = canvas.copy_from_bbox(self.figure.bbox)
            self._below = canvas, canvas.get_width_height(physical=True), picture
            self._draw_artists()

    def _draw_artists(self) -> None:
        for artist in self.artists:
            artist.axes.draw_artist(artist)  # type: ignore[union-attr]
