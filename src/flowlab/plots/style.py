"""What all pictures have in common: colours, figures and their panels.

Nothing in `plots` imports torch at its top, so that the process that draws starts fast. Colours are
viridis and the Okabe-Ito palette, which stay apart for colour-blind readers.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

Array = NDArray[np.floating]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLORMAP = "viridis"
MODES: dict[str, Any] = {"marker": "X", "color": RED, "edgecolors": "white", "label": "true modes"}


def titled_figure(title: str) -> Figure:
    """A figure of 1000 x 500 pixels."""
    figure = Figure(figsize=(10, 5), dpi=100)
    figure.suptitle(title)
    return figure


def panel_grid(figure: Figure, rows: int, columns: int, right: float, gap: float) -> GridSpec:
    """A grid of panels; `gap` is the space between them, in panels."""
    edges = {"left": 0.07, "right": right, "bottom": 0.12, "top": 0.88}
    return figure.add_gridspec(rows, columns, wspace=gap, hspace=gap, **edges)


def side_by_side(title: str, left: tuple[float, float] = (0.08, 0.58)) -> tuple[Figure, list[Axes]]:
    """A figure with two panels, whose left edges are at `left`."""
    figure = titled_figure(title)
    return figure, [figure.add_axes((x, 0.12, 0.37, 0.74)) for x in left]
