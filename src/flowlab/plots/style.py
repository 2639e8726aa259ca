"""What all pictures have in common: colours, figures and their panels.

Nothing in `plots` imports torch at its top, so that the process that draws starts fast. Colours are
viridis and the Okabe-Ito palette, which stay apart for colour-blind readers.
"""

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

Array = NDArray[np.floating]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLORMAP = "viridis"
# of several modes, in turn
SEVERAL = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#F0E442", "black")
MODES: dict[str, Any] = {"marker": "X", "color": RED, "edgecolors": "white", "label": "true modes"}


FORMULA = re.compile(r"\$x_\{\d+\}\$")  # the name of a coordinate that has no other


def plain(text: str, most: int = 40) -> str:
    """Words of the user's as matplotlib shows them as they are: a dollar begins no formula.

    Of more than `most` characters the middle is left out, for columns often differ at the end.
    """
    if FORMULA.fullmatch(text):
        return text
    text = " ".join(text.split())
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most - 1 - most // 2) :]}"
    return text.replace("$", r"\$")


def titled_figure(title: str, height: float = 5) -> Figure:
    """A figure of 1000 pixels by 100 `height`, whose text is legible at a third of that size."""
    figure = Figure(figsize=(5, height / 2), dpi=200)
    figure.suptitle(title, y=1 - 0.1 / height, fontsize=10)
    return figure


def panel_grid(
    figure: Figure, rows: int, columns: int, right: float, gap: float, left: float = 0.12
) -> GridSpec:
    """A grid of panels; `gap` is the space between them, in panels."""
    height = figure.get_figheight()
    edges = {"left": left, "right": right, "bottom": 0.45 / height, "top": 1 - 0.45 / height}
    return figure.add_gridspec(rows, columns, wspace=gap, hspace=gap, **edges)


def plane(ax: Axes, title: str, limit: float, symbol: str = "x") -> None:
    """Make a panel the square [-limit, limit]^2 of the plane."""
    sides = (-limit, limit)
    names = {f"{axis}label": f"${symbol}_{i}$" for axis, i in (("x", 1), ("y", 2))}
    ax.set(xlim=sides, ylim=sides, xticks=sides, yticks=sides, aspect="equal", **names)
    ax.set_title(title, fontsize=10)
    ax.xaxis.set_label_coords(0.5, -0.06)  # between the ticks
    ax.yaxis.set_label_coords(-0.07, 0.5)
    ax.tick_params(labelsize=9)
