"""Pictures of points with any number of coordinates: arrays in, a matplotlib `Figure` out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from flowlab.plots.style import BLUE, GREEN, MODES, RED, Array, panel_grid, titled_figure


def pairs(
    drawn: Array, held_out: Array, modes: Array | None, names: Sequence[str], title: str
) -> Figure:
    """Samples of the flow over held-out data, (N, D) each, with the true modes (M, D) if any.

    On the left the first coordinates, each by itself and against the others, over the range of the
    held-out data; on the right quantiles of as many as can be read.
    """
    figure = titled_figure(title)
    count = min(held_out.shape[1], 4)
    panels = panel_grid(figure, count, count, right=0.53, gap=0.08)
    low, high = held_out.min(0), held_out.max(0)
    margin = np.where(high > low, 0.05 * (high - low), 1)
    limits = list(zip(low - margin, high + margin, strict=True))
    for row, column in np.ndindex(count, count):
        if row < column:
            continue
        ax = figure.add_subplot(panels[row, column], xlim=limits[column])
        for points, color in ((held_out, GREEN), (drawn, BLUE)):
            if row == column:
                share = np.full(len(points), 1 / len(points))
                style: dict[str, Any] = {"weights": share, "color": color, "histtype": "step"}
                ax.hist(points[:, row], bins=30, range=limits[row], **style)
            else:
                x, y = points[:, column], points[:, row]
                ax.scatter(x, y, s=3, alpha=0.4, color=color, linewidths=0)
        if row > column:
            ax.set_ylim(limits[row])
            if modes is not None:
                ax.scatter(modes[:, column], modes[:, row], s=30, **MODES)
        _outer_labels(ax, row, column, names[:count])
    _quantiles(figure.add_axes((0.6, 0.12, 0.37, 0.76)), drawn, held_out, names)
    legend: dict[str, Any] = {}
    for ax in figure.axes:
        legend |= {name: h for h, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(legend.values(), legend.keys(), loc="upper right", bbox_to_anchor=(0.54, 0.89))
    return figure


def _outer_labels(ax: Axes, row: int, column: int, names: Sequence[str]) -> None:
    """Name the coordinates at the left and the bottom of a triangle of panels alone."""
    bottom, left = row == len(names) - 1, column == 0 < row
    ax.tick_params(labelsize=7, labelbottom=bottom, labelleft=left)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(NullLocator() if row == column else MaxNLocator(3))
    ax.set_xlabel(names[column] if bottom else "")
    ax.set_ylabel(names[row] if left else "")


def _quantiles(ax: Axes, drawn: Array, held_out: Array, names: Sequence[str]) -> None:
    """Median, half and nine tenths of the values of the first coordinates."""
    number = np.arange(1, min(held_out.shape[1], 24) + 1)
    center, scale = held_out.mean(0), held_out.std(0)
    scale = np.where(scale > 0, scale, 1)
    panels = (held_out, "held-out data", GREEN, -0.17), (drawn, "samples of the flow", BLUE, 0.17)
    for points, name, color, shift in panels:
        levels = np.quantile((points - center) / scale, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        q, y = levels[:, : len(number)], number + shift
        ax.hlines(y, q[0], q[4], color=color, linewidth=1)
        ax.hlines(y, q[1], q[3], color=color, linewidth=4)
        ax.plot(q[2], y, "o", color=color, markeredgecolor="white", label=name)
    ax.set(
        title="median, 50 % and 90 % of each coordinate",
        xlabel="standard deviations of the held-out data, from its mean",
        ylim=(len(number) + 0.6, 0.4),
    )
    ax.set_yticks(number, names[: len(number)])
    ax.grid(alpha=0.3)


def latents(u: Array, title: str) -> Figure:
    """Histograms of the latents' coordinates, u (N, D), against the standard normal density.

    Of more than eight the first eight.
    """
    count = min(u.shape[1], 8)
    some = "" if count == u.shape[1] else f"; the first {count} coordinates"
    figure = titled_figure(title + some)
    rows = 1 if count <= 4 else 2
    panels = panel_grid(figure, rows, -(-count // rows), right=0.97, gap=0.32)
    t = np.linspace(-4, 4, 200)
    normal = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
    share = np.full(len(u), 1 / len(u)) / (8 / 50)  # of the bin's width
    style: dict[str, Any] = {"histtype": "stepfilled", "color": BLUE, "alpha": 0.6}
    for i in range(count):
        panel = panels[divmod(i, panels.ncols)]
        ax = figure.add_subplot(panel, xlim=(-4, 4), ylim=(0, 0.8), xlabel=f"$u_{{{i + 1}}}$")
        ax.hist(u[:, i], bins=50, range=(-4, 4), weights=share, label="latents", **style)
        ax.plot(t, normal, color=RED, label="standard normal")
        if panel.is_first_col():
            ax.set_ylabel("density")
    figure.axes[0].legend(loc="upper right", fontsize="medium" if rows == 1 else "small")
    return figure
