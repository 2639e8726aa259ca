"""Pictures of points with any number of coordinates: arrays in, a matplotlib `Figure` out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowlab.plots.column import column
from flowlab.plots.style import (
    BLUE,
    MODES,
    ORANGE,
    RED,
    Array,
    panel_grid,
    plain,
    titled_figure,
)

MULTIPLES = 48  # panels that can be read
CHANCE = 0.01  # that some column is said to be off though the densities are the same


def pairs(
    drawn: Array,
    held_out: Array,
    modes: Array | None,
    names: Sequence[str],
    positive: Sequence[bool],
    total: int,
    title: str,
) -> Figure:
    """Samples of the flow over as many held-out points or none, (N, D), with true modes (M, D).

    Each coordinate by itself and against the others, as `column` shows it; `positive` are those
    that cannot be anything else. These may be but D of a `total`.
    """
    count, known = held_out.shape[1], held_out if len(held_out) else drawn
    height = min(max(5, 1 + 1.5 * count), 10)
    some = f"; {count} of {total} columns" if count < total else ""
    figure = titled_figure(title + some, height)
    right, size = (0.97, 7 if count > 3 else 9) if count > 1 else (0.78, 9)
    panels = panel_grid(figure, count, count, right, gap=0.08, left=0.1)
    most = int(13 * height / count)  # characters along the side of a panel
    bins = min(max(10, math.isqrt(len(known))), 30)
    columns = list(map(column, names, known.T, positive))
    fewer = min(3, math.sqrt(1000 / len(known)))
    # in turn, so that neither hides the other
    sets = {ORANGE: held_out, BLUE: drawn} if len(held_out) else {BLUE: drawn}
    mixed = np.stack([*sets.values()], axis=1).reshape(-1, count)
    dots: dict[str, Any] = {"s": 25 / (1 + count) * fewer, "alpha": 0.5, "linewidths": 0}
    dots["c"] = [*sets] * len(known)
    for i, j in np.ndindex(count, count):
        if i < j:
            continue
        ax = figure.add_subplot(panels[i, j])
        columns[j].scale(ax, "x", room=110 // count)
        if i == j:
            _marginal(ax, held_out[:, i], drawn[:, i], columns[i].edges(bins))
        else:
            columns[i].scale(ax, "y", room=30)
            ax.scatter(mixed[:, j], mixed[:, i], **dots)
            if modes is not None:
                ax.scatter(modes[:, j], modes[:, i], **MODES | {"s": 30})
        bottom, left = i == count - 1, j == 0 < i
        ax.tick_params(labelsize=size, labelbottom=bottom, labelleft=left)
        ax.set_xlabel(plain(columns[j].name, most) if bottom else "", fontsize=size + 1)
        ax.set_ylabel(plain(columns[i].name, most) if left else "", fontsize=size + 1)
    _legend(figure, loc="upper right", bbox_to_anchor=(0.98, 1 - 0.55 / height))
    return figure


def _marginal(ax: Axes, held_out: Array, drawn: Array, edges: Array) -> None:
    """The shares of the values in bins that look equally wide."""
    filled: dict[str, Any] = {"fill": True, "alpha": 0.5}
    for values, label, style in (
        (held_out, "held-out data", filled | {"color": ORANGE}),
        (drawn, "samples of the flow", {"color": BLUE}),
    ):
        if len(values):
            ax.stairs(np.histogram(values, edges)[0] / len(values), edges, label=label, **style)
    ax.set_ylim(bottom=0)
    ax.set_yticks([])


def quantiles(
    drawn: Array, held_out: Array, names: Sequence[str], positive: Sequence[bool], title: str
) -> Figure:
    """The quantiles of samples of the flow against those of held-out points, (N, D) each.

    A panel for each coordinate; of more than `MULTIPLES` those that are furthest off. How far one
    is off is the largest difference between the two distribution functions, and further than
    chance if a Kolmogorov-Smirnov test of all at the level `CHANCE` would say so.
    """
    distances = [_distance(*both) for both in zip(drawn.T, held_out.T, strict=True)]
    dim = len(distances)
    shown = sorted(np.argsort(distances)[-MULTIPLES:])
    rows = max(round(math.sqrt(len(shown) / 2)), -(-len(shown) // 8), 1)
    some = f"; the {len(shown)} of {dim} columns that are furthest off" if len(shown) < dim else ""
    figure = titled_figure(title + some, height := min(max(5, 1 + 1.7 * rows), 10))
    panels = panel_grid(figure, rows, -(-len(shown) // rows), 0.98, gap=0.4, left=0.1)
    limit = math.sqrt(-math.log(CHANCE / dim / 2) / len(drawn))
    levels = np.linspace(0.01, 0.99, 99)
    size = 9 if rows == 1 else 7
    for i, k in enumerate(shown):
        shape = column(names[k], held_out[:, k], positive[k])
        ax = figure.add_subplot(panels[divmod(i, panels.ncols)])
        for which in ("x", "y"):
            shape.scale(ax, which, room=90 // panels.ncols)
        ends = (shape.low, shape.high)
        ax.plot(ends, ends, color="black", linewidth=0.8, label="equal")
        with np.errstate(invalid="ignore"):  # of samples that are not finite
            q = np.quantile(held_out[:, k], levels), np.quantile(drawn[:, k], levels)
        color, label = (RED, "off by more than chance") if distances[k] > limit else (BLUE, "")
        ax.plot(*q, ".", markersize=4, color=color, label=label)
        ax.set_title(plain(shape.name, 130 // panels.ncols), fontsize=size + 1, pad=3)
        ax.tick_params(labelsize=size, pad=2)
    figure.supxlabel("quantiles of held-out data, 1 % to 99 %", y=0.08 / height, size="medium")
    figure.supylabel("quantiles of samples of the flow", x=0.008, size="medium")
    _legend(figure, loc="lower right", bbox_to_anchor=(0.99, 0), ncol=2, fontsize=8)
    return figure


def _legend(figure: Figure, **where: Any) -> None:
    """One of all panels."""
    legend: dict[str, Any] = {}
    for ax in figure.axes:
        legend |= {name: h for h, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(legend.values(), legend.keys(), **where)


def _distance(first: Array, second: Array) -> float:
    """The Kolmogorov-Smirnov statistic of two sets of values."""
    at = np.concatenate((first, second))
    shares = [np.searchsorted(np.sort(v), at, "right") / len(v) for v in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


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
