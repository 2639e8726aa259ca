"""Pictures of the plane: arrays in, a matplotlib `Figure` out."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D

from flowlab.plots.style import (
    BLUE,
    COLORMAP,
    GREEN,
    MODES,
    ORANGE,
    Array,
    side_by_side,
    titled_figure,
)


def density(axis: Array, learned: Array, true: Array, title: str) -> Figure:
    """Filled contours of the learned and the true density, on one colour scale.

    Shapes: axis (G,) holds the coordinates of a square grid, learned and true (G, G) densities
    with rows along x2.
    """
    figure, axes = side_by_side(title, left=(0.07, 0.5))
    levels = MaxNLocator(21).tick_values(0, true.max())
    for ax, values, name in zip(axes, (learned, true), ("learned", "true"), strict=True):
        contours = ax.contourf(axis, axis, values, levels, cmap=COLORMAP, extend="max")
        _plane(ax, f"{name} density", limit=axis[-1])
    figure.colorbar(contours, cax=figure.add_axes((0.9, 0.12, 0.02, 0.72)), label="density")
    return figure


def surface(axis: Array, learned: Array, true: Array, title: str) -> Figure:
    """The learned and the true density as surfaces over the plane; shapes as for `density`."""
    figure = titled_figure(title)
    height = 1.05 * true.max()
    for i, (values, name) in enumerate(((learned, "learned"), (true, "true"))):
        ax = Axes3D(figure, (0.02 + 0.48 * i, 0.02, 0.46, 0.84))
        figure.add_axes(ax)
        ax.plot_surface(
            *np.meshgrid(axis, axis),
            values,
            cmap=COLORMAP,
            vmin=0,
            vmax=height,
            rcount=40,
            ccount=40,
        )
        ticks = np.linspace(axis[0], axis[-1], 5)
        ax.set(title=f"{name} density", xlabel="$x_1$", ylabel="$x_2$", xticks=ticks, yticks=ticks)
        ax.set_zlim(0, height)
        ax.zaxis.set_major_locator(MaxNLocator(5))
    return figure


def samples(drawn: Array, held_out: Array, modes: Array | None, limit: float, title: str) -> Figure:
    """Samples of the flow beside held-out data, (N, 2) each, with the true modes (M, 2) if any."""
    figure, axes = side_by_side(title)
    panels = (drawn, "samples of the flow", BLUE), (held_out, "held-out data", GREEN)
    for ax, (points, name, color) in zip(axes, panels, strict=True):
        ax.scatter(points[:, 0], points[:, 1], s=9, alpha=0.5, color=color, linewidths=0)
        if modes is not None:
            ax.scatter(modes[:, 0], modes[:, 1], s=110, **MODES)
            ax.legend(loc="upper left")
        _plane(ax, name, limit)
    return figure


def grid(base: Array, data: Array, limit: float, title: str) -> Figure:
    """How the flow bends a grid: the lines of `base` and where the flow takes them in `data`.

    Shapes: base and data (2, L, P, 2), two families of L lines of P points.
    """
    figure, axes = side_by_side(title)
    for ax, lines, name, symbol in zip(
        axes, (base, data), ("base space", "data space"), "ux", strict=True
    ):
        for family, color in zip(lines, (BLUE, ORANGE), strict=True):
            ax.add_collection(LineCollection(list(family), colors=color, linewidths=1))
        _plane(ax, name, limit, symbol)
    return figure


def _plane(ax: Axes, title: str, limit: float, symbol: str = "x") -> None:
    ticks = np.linspace(-limit, limit, 5)
    ax.set(
        title=title,
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xticks=ticks,
        yticks=ticks,
        xlabel=f"${symbol}_1$",
        ylabel=f"${symbol}_2$",
        aspect="equal",
    )
