"""Pictures of the plane: arrays in, a matplotlib `Figure` out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D

from flowlab.plots.style import (
    BLUE,
    COLORMAP,
    GREEN,
    MODES,
    Array,
    plane,
    titled_figure,
)

DEPTH = 14  # nats below the highest log-density that are told apart
FAR = 1e6  # where points are shown that are nowhere
ABOVE = 3  # nats above the highest true one, from which on all are off every scale


def density(axis: Array, learned: Array, true: Array, title: str) -> Figure:
    """Filled contours of the learned and the true density, and below them of their logarithms.

    Shapes: axis (G,) holds the coordinates of a square grid, learned and true (G, G) log-densities
    with rows along x2. Each row has one colour scale.
    """
    figure = titled_figure(title, height=9.8)
    highest = true.max()
    levels: Array = np.asarray(MaxNLocator(21).tick_values(0, np.exp(highest)))
    depths = np.arange(np.ceil(highest) - DEPTH, np.ceil(highest) + 1)
    learned = np.minimum(learned, highest + ABOVE)  # whose exponential may be no number
    kinds: Any = (
        ("density", np.exp, levels, "max"),
        ("log-density", np.asarray, depths, "both"),
    )
    for bottom, (kind, scale, steps, extend) in zip((0.52, 0.052), kinds, strict=True):
        for left, values, name in ((0.08, learned, "learned"), (0.51, true, "true")):
            ax = figure.add_axes((left, bottom, 0.36, 0.367))
            shown = np.maximum(scale(values), steps[0] - 1)  # minus infinity is below all levels
            contours = ax.contourf(axis, axis, shown, steps, cmap=COLORMAP, extend=extend)
            plane(ax, f"{name} {kind}", limit=axis[-1])
        bar = figure.colorbar(contours, cax=figure.add_axes((0.89, bottom, 0.02, 0.367)))
        bar.locator = MaxNLocator(4)
        bar.ax.tick_params(labelsize=9)
    return figure


def surface(axis: Array, learned: Array, true: Array, title: str) -> Figure:
    """The learned and the true density as surfaces over the plane; arguments as for `density`."""
    figure = titled_figure(title)
    height = 1.05 * np.exp(true.max())
    learned = np.minimum(learned, true.max() + ABOVE)
    fine = {"rcount": len(axis), "ccount": len(axis), "linewidth": 0, "antialiased": False}
    for i, (values, name) in enumerate(((learned, "learned"), (true, "true"))):
        ax = Axes3D(figure, (0.02 + 0.48 * i, 0.02, 0.43, 0.8))
        figure.add_axes(ax)
        colors = {"cmap": COLORMAP, "vmin": 0, "vmax": height}
        ax.plot_surface(*np.meshgrid(axis, axis), np.exp(values), **colors, **fine)
        ticks = axis[0], axis[-1]
        ax.set(xlabel="$x_1$", ylabel="$x_2$", xticks=ticks, yticks=ticks, zlim=(0, height))
        ax.set_title(f"{name} density", fontsize=10)
        ax.zaxis.set_major_locator(MaxNLocator(3))
        ax.tick_params(labelsize=9, pad=-2)
        ax.xaxis.labelpad = ax.yaxis.labelpad = -10
    return figure


def samples(drawn: Array, held_out: Array, modes: Array | None, limit: float, title: str) -> Figure:
    """Samples of the flow beside held-out data, (N, 2) each, with the true modes (M, 2) if any."""
    figure = titled_figure(title)
    axes = [figure.add_axes((left, 0.1, 0.36, 0.72)) for left in (0.09, 0.6)]
    panels = (drawn, "samples of the flow", BLUE), (held_out, "held-out data", GREEN)
    for ax, (points, name, color) in zip(axes, panels, strict=True):
        ax.scatter(points[:, 0], points[:, 1], s=3, alpha=0.5, color=color, linewidths=0)
        if modes is not None:
            ax.scatter(modes[:, 0], modes[:, 1], s=40, linewidths=0.7, **MODES)
            ax.legend(loc="upper left", fontsize=9, handletextpad=0, borderpad=0.2)
        plane(ax, name, limit)
    return figure


def grid(steps: Sequence[tuple[str, Array, Array]], every: int, limit: float, title: str) -> Figure:
    """How layers bend a grid, one after the other, and how the density changes with it.

    Each step has a name, the grid's points (P, P, 2) and the density there, (P, P); there is a line
    every so many points. All have one colour scale. What a layer takes to no number is far away.
    """
    steps = [
        (name, np.nan_to_num(x, nan=FAR, posinf=FAR, neginf=-FAR), np.nan_to_num(p, posinf=FAR))
        for name, x, p in steps
    ]
    columns = min(3, len(steps))
    rows, side = -(-len(steps) // columns), 9.4 / columns
    figure = titled_figure(title, height := 0.9 + rows * (side + 0.4))
    highest = max(np.quantile(density, 0.99) for _, _, density in steps)
    look: dict[str, Any] = {"cmap": COLORMAP, "vmin": 0, "vmax": highest, "shading": "gouraud"}
    for i, (name, points, density) in enumerate(steps):
        row, column = divmod(i, columns)
        left, bottom = 0.3 + column * (side + 0.2), height - 0.5 - (row + 1) * (side + 0.4)
        ax = figure.add_axes((left / 10, bottom / height, (side - 0.2) / 10, (side - 0.2) / height))
        ax.pcolormesh(*points.transpose(2, 0, 1), density, rasterized=True, **look)
        lines = [*points[::every], *points.transpose(1, 0, 2)[::every]]
        ax.add_collection(LineCollection(lines, colors="white", linewidths=0.3))
        plane(ax, name, limit)
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    said = "colour: the density; where the grid is tight it is high"
    figure.text(0.5, 0.1 / height, said, ha="center", fontsize=9)
    return figure
