"""What results show in notebooks: pictures inside the page, which survive its export."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from hyperspy_specml.results._figures import draw_map, draw_outlines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from hyperspy.axes import BaseDataAxis

# Maps in a row at most, the inches of one, and pixels per inch.
_MOST, _WIDTH, _HEIGHT, _DPI = 6, 1.9, 1.7, 72


def small_maps(
    maps: dict[str, np.ndarray], scan_axes: Sequence[BaseDataAxis], outlined: np.ndarray | None = None
) -> str:
    """Return a row of maps as an HTML picture: the first six, without ticks.

    Parameters
    ----------
    maps
        Values in array order, by title.
    scan_axes
        As of the signal: the fastest first.
    outlined
        Bool map of pixels that are outlined.
    """
    from matplotlib.figure import Figure

    shown = dict(list(maps.items())[:_MOST])
    figure = Figure(figsize=(_WIDTH * len(shown), _HEIGHT), dpi=_DPI, layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        draw_map(axes, values, scan_axes, bar=False)
        if outlined is not None and len(scan_axes) > 1:
            draw_outlines(axes, outlined, scan_axes)
        axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
        axes.set_title(title, fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return f"<img style='max-width: 100%' src='data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}'/>"
