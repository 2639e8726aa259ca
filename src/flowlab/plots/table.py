"""Pictures of points with any number of coordinates: arrays in, a matplotlib `Figure` out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from flowlab.plots.column import column
from flowlab.plots.style import (
    BLUE,
    MODES,
    ORANGE,
    RED,
    SEVERAL,
    Array,
    panel_grid,
    plain,
    plane,
    titled_figure,
)

MULTIPLES = 24  # panels that can be read
SCATTERED = 2000  # points of a mode
TICKED = 4  # columns up to which there is room for ticks
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
    panels = panel_grid(figure, count, count, right=0.97, gap=0.08, left=0.14)
    most = int(5 * height / count)  # characters along the side of a panel
    bins = min(max(10, math.isqrt(len(known))), 30)
    columns = list(map(column, names, known.T, positive))
    fewer = min(3, math.sqrt(1000 / len(known)))
    # in turn, so that neither hides the other
    sets = {ORANGE: held_out, BLUE: drawn} if len(held_out) else {BLUE: drawn}
    mixed = np.stack([*sets.values()], axis=1).reshape(-1, count)
    dots: dict[str, Any] = {"s": 8 / (1 + count) * fewer, "alpha": 0.5, "linewidths": 0}
    dots["c"] = [*sets] * len(known)
    for i, j in np.ndindex(count, count):
        if i < j:
            continue
        ax = figure.add_subplot(panels[i, j])
        columns[j].scale(ax, "x", room=50 // count)
        if i == j:
            _marginal(ax, held_out[:, i], drawn[:, i], columns[i].edges(bins))
        else:
            columns[i].scale(ax, "y", room=14)
            ax.scatter(mixed[:, j], mixed[:, i], **dots)
            if modes is not None:
                ax.scatter(modes[:, j], modes[:, i], **MODES | {"s": 12, "linewidths": 0.5})
        bottom, left = i == count - 1, j == 0 < i
        few = count <= TICKED
        ax.tick_params(labelsize=8, labelbottom=bottom and few, labelleft=left and few)
        ax.set_xlabel(plain(columns[j].name, most) if bottom else "", fontsize=9)
        ax.set_ylabel(plain(columns[i].name, most) if left else "", fontsize=9)
    _legend(figure, loc="upper right", bbox_to_anchor=(0.99, 1 - 0.55 / height))
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
    rows = max(round(math.sqrt(len(shown) / 2)), -(-len(shown) // 6), 1)
    some = f"; worst {len(shown)} of {dim} columns" if len(shown) < dim else ""
    figure = titled_figure(title + some, height := min(max(5, 1 + 2 * rows), 10))
    panels = panel_grid(figure, rows, -(-len(shown) // rows), 0.98, gap=0.45, left=0.12)
    limit = math.sqrt(-math.log(CHANCE / dim / 2) / len(drawn))
    levels = np.linspace(0.01, 0.99, 99)
    for i, k in enumerate(shown):
        shape = column(names[k], held_out[:, k], positive[k])
        ax = figure.add_subplot(panels[divmod(i, panels.ncols)])
        for which in ("x", "y"):
            shape.scale(ax, which, room=40 // panels.ncols)
        ends = (shape.low, shape.high)
        ax.plot(ends, ends, color="black", linewidth=0.6, label="equal")
        with np.errstate(invalid="ignore"):  # of samples that are not finite
            q = np.quantile(held_out[:, k], levels), np.quantile(drawn[:, k], levels)
        color, label = (RED, "off by more than chance") if distances[k] > limit else (BLUE, "")
        ax.plot(*q, ".", markersize=2, color=color, label=label)
        ax.set_title(plain(shape.name, 50 // panels.ncols), fontsize=9, pad=3)
        few = len(shown) <= TICKED
        ax.tick_params(labelsize=8, pad=2, labelbottom=few, labelleft=few)
    figure.supxlabel("held-out data", x=0.12, y=0.08 / height, ha="left", size=9)
    figure.supylabel("samples of the flow", x=0.008, size=9)
    _legend(figure, loc="lower right", bbox_to_anchor=(1, 0), ncol=2, handlelength=1)
    return figure


def _legend(figure: Figure, **where: Any) -> None:
    """One of all panels."""
    legend: dict[str, Any] = {}
    for ax in figure.axes:
        legend |= {name: h for h, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(legend.values(), legend.keys(), fontsize=9, **where)


def _distance(first: Array, second: Array) -> float:
    """The Kolmogorov-Smirnov statistic of two sets of values."""
    at = np.concatenate((first, second))
    shares = [np.searchsorted(np.sort(v), at, "right") / len(v) for v in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def latents(u: Array, modes: Array | None, title: str) -> Figure:
    """Histograms of the latents' coordinates, u (N, D), against the standard normal density.

    Of more than eight the first eight; of two their scatter too. `modes` (N,) numbers the mode that
    each came from, which its colour shows.
    """
    count = min(u.shape[1], 8)
    figure = titled_figure(title + ("" if count == u.shape[1] else f"; the first {count}"))
    groups = [np.full(len(u), True)] if modes is None else [modes == k for k in np.unique(modes)]
    colors = [SEVERAL[k % len(SEVERAL)] for k in range(len(groups))]
    if count == 2:
        _scatter(figure.add_axes((0.09, 0.13, 0.37, 0.74)), u, groups, colors)
        panels = panel_grid(figure, 2, 1, right=0.97, gap=0.55, left=0.59)
    else:
        rows = 1 if count <= 4 else 2
        panels = panel_grid(figure, rows, -(-count // rows), right=0.97, gap=0.5)
    t = np.linspace(-4, 4, 200)
    normal = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
    share = 1 / len(u) / (8 / 50)  # of the bin's width
    style: dict[str, Any] = {"histtype": "stepfilled", "stacked": True, "color": colors}
    style |= {"bins": 50, "range": (-4, 4)}
    for i in range(count):
        panel = panels[divmod(i, panels.ncols)]
        ax = figure.add_subplot(panel, xlim=(-4, 4), ylim=(0, 0.65), yticks=(0, 0.5))
        parts = [u[group, i] for group in groups]
        ax.hist(parts, weights=[np.full(len(part), share) for part in parts], alpha=0.6, **style)
        ax.plot(t, normal, color="black", linewidth=1)
        ax.set_xlabel(f"$u_{{{i + 1}}}$", labelpad=-8)
        ax.set_xticks((-3, 3))
        ax.tick_params(labelsize=9, labelleft=panel.is_first_col())
    return figure


def _scatter(ax: Axes, u: Array, groups: Sequence[Array], colors: Sequence[str]) -> None:
    """Latents (N, 2) in the plane, each group in its colour, and one, two and three deviations."""
    for group, color in zip(groups, colors, strict=True):
        x, y = u[group][:SCATTERED].T
        ax.scatter(x, y, s=3, alpha=0.5, color=color, linewidths=0)
    for radius in (1, 2, 3):
        ax.add_patch(Circle((0, 0), radius, fill=False, linewidth=0.7, linestyle="--"))
    plane(ax, "", 4, "u")
