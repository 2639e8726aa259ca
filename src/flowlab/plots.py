"""Pictures: arrays in, a matplotlib `Figure` out.

Nothing here imports torch, so that the process that draws starts fast. Colours are viridis and
the Okabe-Ito palette, which stay apart for colour-blind readers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator, NullLocator
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray

Array = NDArray[np.floating]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLORMAP = "viridis"
MODES: dict[str, Any] = {"marker": "X", "color": RED, "edgecolors": "white", "label": "true modes"}


def density(axis: Array, learned: Array, true: Array, title: str) -> Figure:
    """Filled contours of the learned and the true density, on one colour scale.

    Shapes: axis (G,) holds the coordinates of a square grid, learned and true (G, G) densities
    with rows along x2.
    """
    figure, axes = _side_by_side(title, left=(0.07, 0.5))
    levels = MaxNLocator(21).tick_values(0, true.max())
    for ax, values, name in zip(axes, (learned, true), ("learned", "true"), strict=True):
        contours = ax.contourf(axis, axis, values, levels, cmap=COLORMAP, extend="max")
        _plane(ax, f"{name} density", limit=axis[-1])
    figure.colorbar(contours, cax=figure.add_axes((0.9, 0.12, 0.02, 0.72)), label="density")
    return figure


def surface(axis: Array, learned: Array, true: Array, title: str) -> Figure:
    """The learned and the true density as surfaces over the plane; shapes as for `density`."""
    figure = _figure(title)
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
    figure, axes = _side_by_side(title)
    panels = (drawn, "samples of the flow", BLUE), (held_out, "held-out data", GREEN)
    for ax, (points, name, color) in zip(axes, panels, strict=True):
        ax.scatter(points[:, 0], points[:, 1], s=9, alpha=0.5, color=color, linewidths=0)
        if modes is not None:
            ax.scatter(modes[:, 0], modes[:, 1], s=110, **MODES)
            ax.legend(loc="upper left")
        _plane(ax, name, limit)
    return figure


def pairs(drawn: Array, held_out: Array, modes: Array | None, title: str) -> Figure:
    """Samples of the flow over held-out data, (N, D) each, with the true modes (M, D) if any.

    On the left the first coordinates, each by itself and against the others, over the range of the
    held-out data; on the right quantiles of as many as can be read.
    """
    figure = _figure(title)
    count = min(held_out.shape[1], 4)
    panels = _panels(figure, count, count, right=0.53, gap=0.08)
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
        _outer_labels(ax, row, column, count)
    _quantiles(figure.add_axes((0.6, 0.12, 0.37, 0.76)), drawn, held_out)
    names: dict[str, Any] = {}
    for ax in figure.axes:
        names |= {name: h for h, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(names.values(), names.keys(), loc="upper right", bbox_to_anchor=(0.54, 0.89))
    return figure


def _outer_labels(ax: Axes, row: int, column: int, count: int) -> None:
    """Name the coordinates at the left and the bottom of a triangle of panels alone."""
    bottom, left = row == count - 1, column == 0 < row
    ax.tick_params(labelsize=7, labelbottom=bottom, labelleft=left)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(NullLocator() if row == column else MaxNLocator(3))
    ax.set_xlabel(f"$x_{{{column + 1}}}$" if bottom else "")
    ax.set_ylabel(f"$x_{{{row + 1}}}$" if left else "")


def _quantiles(ax: Axes, drawn: Array, held_out: Array) -> None:
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
    ax.set_yticks(number, [f"$x_{{{i}}}$" for i in number])
    ax.grid(alpha=0.3)


def grid(base: Array, data: Array, limit: float, title: str) -> Figure:
    """How the flow bends a grid: the lines of `base` and where the flow takes them in `data`.

    Shapes: base and data (2, L, P, 2), two families of L lines of P points.
    """
    figure, axes = _side_by_side(title)
    for ax, lines, name, symbol in zip(
        axes, (base, data), ("base space", "data space"), "ux", strict=True
    ):
        for family, color in zip(lines, (BLUE, ORANGE), strict=True):
            ax.add_collection(LineCollection(list(family), colors=color, linewidths=1))
        _plane(ax, name, limit, symbol)
    return figure


def loss(
    epochs: Sequence[int],
    train: Sequence[Any],
    val: Sequence[Any],
    entropy: float,
    title: str,
) -> Figure:
    """The NLL of training and validation over the epochs, above its floor, the entropy.

    Shapes: train and val (epochs,), or (epochs, R) of replicates: their mean, and a band from the
    lowest to the highest.
    """
    figure = _figure(title)
    ax = figure.add_axes((0.09, 0.13, 0.88, 0.73))
    for values, color, name in ((train, BLUE, "training"), (val, ORANGE, "validation")):
        curves = np.reshape(values, (len(epochs), -1))
        replicated = curves.shape[1] > 1
        label = f"{name}, mean and range of {curves.shape[1]} replicates" if replicated else name
        ax.plot(epochs, curves.mean(1), ".-", color=color, label=label)
        if replicated:
            ax.fill_between(epochs, curves.min(1), curves.max(1), color=color, alpha=0.25)
    ax.axhline(entropy, color="black", linestyle="--", label=f"entropy, {entropy:.4f} nats")
    ax.set(xlabel="epoch", ylabel="NLL (nats per point)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def latents(u: Array, title: str) -> Figure:
    """Histograms of the latents' coordinates, u (N, D), against the standard normal density.

    Of more than eight the first eight.
    """
    count = min(u.shape[1], 8)
    figure = _figure(title if count == u.shape[1] else f"{title}; the first {count} coordinates")
    rows = 1 if count <= 4 else 2
    panels = _panels(figure, rows, -(-count // rows), right=0.97, gap=0.32)
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


def _figure(title: str) -> Figure:
    figure = Figure(figsize=(10, 5), dpi=100)
    figure.suptitle(title)
    return figure


def _panels(figure: Figure, rows: int, columns: int, right: float, gap: float) -> GridSpec:
    """A grid of panels; `gap` is the space between them, in panels."""
    edges = {"left": 0.07, "right": right, "bottom": 0.12, "top": 0.88}
    return figure.add_gridspec(rows, columns, wspace=gap, hspace=gap, **edges)


def _side_by_side(
    title: str, left: tuple[float, float] = (0.08, 0.58)
) -> tuple[Figure, list[Axes]]:
    figure = _figure(title)
    return figure, [figure.add_axes((x, 0.12, 0.37, 0.74)) for x in left]


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
