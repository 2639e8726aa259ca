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
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray

Array = NDArray[np.floating]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLORMAP = "viridis"


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


def samples(drawn: Array, held_out: Array, modes: Array, limit: float, title: str) -> Figure:
    """Samples of the flow beside held-out data, (N, 2) each, with the true modes (M, 2)."""
    figure, axes = _side_by_side(title)
    panels = (drawn, "samples of the flow", BLUE), (held_out, "held-out data", GREEN)
    for ax, (points, name, color) in zip(axes, panels, strict=True):
        ax.scatter(points[:, 0], points[:, 1], s=9, alpha=0.5, color=color, linewidths=0)
        ax.scatter(
            modes[:, 0],
            modes[:, 1],
            s=110,
            marker="X",
            color=RED,
            edgecolors="white",
            label="true modes",
        )
        ax.legend(loc="upper left")
        _plane(ax, name, limit)
    return figure


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
    ax.axhline(entropy, color="black", linestyle="--", label=f"entropy, {entropy:.3f} nats")
    ax.set(xlabel="epoch", ylabel="NLL (nats per point)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def latents(u: Array, title: str) -> Figure:
    """Histograms of the latents' coordinates, u (N, D), against the standard normal density."""
    figure, axes = _side_by_side(title)
    t = np.linspace(-4, 4, 200)
    normal = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
    for i, (ax, values) in enumerate(zip(axes, u.T, strict=True), start=1):
        ax.hist(
            values,
            bins=50,
            range=(-4, 4),
            density=True,
            histtype="stepfilled",
            color=BLUE,
            alpha=0.6,
            label="latents",
        )
        ax.plot(t, normal, color=RED, label="standard normal")
        ax.set(xlim=(-4, 4), ylim=(0, 0.8), xlabel=f"$u_{i}$", ylabel="density")
        ax.legend(loc="upper right")
    return figure


def _figure(title: str) -> Figure:
    figure = Figure(figsize=(10, 5), dpi=100)
    figure.suptitle(title)
    return figure


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
