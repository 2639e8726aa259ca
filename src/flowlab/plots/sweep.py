"""Pictures of a sweep: cells in, matplotlib figures out."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from flowlab.plots.style import BLUE, COLORMAP, ORANGE, RED, plain
from flowlab.plots.sweep_axes import (
    empty_figure,
    extent_of,
    on_grid,
    ordered,
    positions,
    scale,
    truth_of,
)
from flowlab.runs.figures import TESTS
from flowlab.runs.settings import rounded

if TYPE_CHECKING:
    from flowlab.runs.results import Cell, Ranking

MULTIPLES = 16
NAMED = 20  # dots in a picture
# of several data sets with `-` and the name of one, but for the overview of all
NAMES = ("curve", "heatmap-*", "axes", "pareto", "densities", "overview")
LABELS = {name: f"test {words} (nats)" for name, words in TESTS.items()}
BEST: dict[str, Any] = {"color": ORANGE, "marker": "*", "linestyle": "none", "markersize": 20}
BEST |= {"markeredgecolor": "black", "zorder": 1.5, "label": "best by validation"}


def figures(ranking: Ranking) -> Iterator[tuple[str, Figure]]:
    """Name and figure of each picture that suits the axes that vary, and the data."""
    for name, figure in _figures(ranking):
        if ranking.data:
            said = figure.get_suptitle()
            figure.suptitle(plain(ranking.data) + (said and f": {said}"))
        yield f"{name}-{ranking.data}" if ranking.data else name, figure


def _figures(ranking: Ranking) -> Iterator[tuple[str, Figure]]:
    axes, cells = ranking.axes, ranking.cells
    if len(axes) == 1:
        yield "curve", curve(ranking)
    elif axes and _is_grid(cells, axes):
        for row, column in itertools.combinations(range(len(axes)), 2):
            yield f"heatmap-{axes[row]}-{axes[column]}", heatmap(ranking, row, column)
    elif axes:
        yield "axes", scatter(ranking)
    if len(cells) > 1:
        yield "pareto", pareto(ranking)
    if (figure := densities(ranking)) is not None:
        yield "densities", figure


def _is_grid(cells: Sequence[Cell], axes: Sequence[str]) -> bool:
    """Whether most combinations of the axes' values have a cell, as they have not in a search."""
    size = math.prod(len({cell.values[i] for cell in cells}) for i in range(len(axes)))
    return 2 * len(cells) > size


def heatmap(ranking: Ranking, row: int, column: int) -> Figure:
    """The mean over two axes, averaged over the others; the place of the best cell is framed."""
    cells, axes, label = ranking.cells, ranking.axes, LABELS[ranking.measure]
    rows, columns = (ordered(cell.values[i] for cell in cells) for i in (row, column))
    table = np.full((len(rows), len(columns)), np.nan)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            here = [c for c in cells if (c.values[row], c.values[column]) == (y, x)]
            table[i, j] = np.mean([c.mean(ranking.measure) for c in here]) if here else np.nan
    figure = empty_figure(2.5 + 1.1 * len(columns), 1.8 + 0.8 * len(rows))
    ax = figure.add_subplot()
    image = ax.imshow(table, cmap=f"{COLORMAP}_r", origin="lower", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (i, j), value in np.ndenumerate(table):
        text = "-" if math.isnan(value) else f"{value:.3f}"
        ax.text(j, i, text, ha="center", va="center", color="white" if value > middle else "black")
    best = cells[0].values
    left, low = columns.index(best[column]), rows.index(best[row])
    frame = Rectangle((left - 0.47, low - 0.47), 0.94, 0.94, fill=False, edgecolor=RED, lw=3)
    ax.add_patch(frame)
    others = ", mean over the other keys" if len(axes) > 2 else ""
    ax.set_xticks(range(len(columns)), map(plain, columns))
    ax.set_yticks(range(len(rows)), map(plain, rows))
    ax.set(xlabel=plain(axes[column]), ylabel=plain(axes[row]))
    ax.set_title(f"framed: the best by {ranking.rank}{others}", fontsize=9)
    figure.colorbar(image, label=label)
    return figure


def curve(ranking: Ranking) -> Figure:
    """The mean along one axis, with bars of one standard error where there are several seeds."""
    cells, measure = ranking.cells, ranking.measure
    values = ordered(cell.values[0] for cell in cells)
    by_value = {cell.values[0]: cell for cell in cells}
    x, numeric = positions(values)
    means = [by_value[value].mean(measure) for value in values]
    errors = np.array([by_value[value].error(measure) for value in values])
    figure = empty_figure(7, 4.5)
    ax = figure.add_subplot()
    if numeric:
        scale(ax.xaxis, x)
        ax.plot(x, means, color=BLUE)
    if np.isnan(errors).all():
        ax.plot(x, means, "o", color=BLUE)
        title = "one seed each, so that no error is known"
    else:
        ax.errorbar(x, means, errors, fmt="o", color=BLUE, capsize=4)
        title = "mean and one standard error over the seeds"
    best = values.index(cells[0].values[0])
    ax.plot(x[best], means[best], **BEST)
    ax.set_xticks(x, [plain(rounded(value)) for value in values])
    ax.minorticks_off()
    ax.set(xlabel=plain(ranking.axes[0]), ylabel=LABELS[measure], title=title)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def scatter(ranking: Ranking) -> Figure:
    """Every cell against each of the first axes; the best is marked."""
    cells, axes = ranking.cells, ranking.axes[:MULTIPLES]
    figure = empty_figure(1 + 3.5 * len(axes), 4)
    panels = figure.subplots(1, len(axes), sharey=True)
    y = [cell.mean(ranking.measure) for cell in cells]
    for i, (ax, axis) in enumerate(zip(panels, axes, strict=True)):
        values = ordered(cell.values[i] for cell in cells)
        places, numeric = positions(values)
        x = [places[values.index(cell.values[i])] for cell in cells]
        if numeric:
            scale(ax.xaxis, x)
        else:
            ax.set_xticks(places, [plain(value) for value in values])
        ax.plot(x, y, "o", color=BLUE, markersize=4)
        ax.plot(x[:1], y[:1], **BEST)
        scale(ax.yaxis, y)
        ax.set(xlabel=plain(axis))
        ax.grid(alpha=0.3)
    panels[0].set_ylabel(LABELS[ranking.measure])
    panels[0].legend()
    return figure


def pareto(ranking: Ranking) -> Figure:
    """Against parameters and seconds of training, with the front of each; dots have their rank."""
    cells, measure = ranking.cells, ranking.measure
    figure = empty_figure(13, 5)
    *panels, names = figure.subplots(1, 3, sharey=True, width_ratios=(3, 3, 2))
    y = [cell.mean(measure) for cell in cells]
    for ax, size, label in zip(
        panels, ("params", "seconds"), ("parameters", "seconds of training"), strict=True
    ):
        x = [cell.mean(size) for cell in cells]
        points = sorted(zip(x, y, strict=True))
        lowest = np.minimum.accumulate([value for _, value in points])
        front = [point for point, low in zip(points, lowest, strict=True) if point[1] == low]
        ax.errorbar(x, y, [cell.error(measure) for cell in cells], fmt="o", color=BLUE, capsize=3)
        ax.step(*zip(*front, strict=True), where="post", color=ORANGE, label="Pareto front")
        ax.plot(x[:1], y[:1], **BEST)
        for i, place in enumerate(zip(x[:NAMED], y, strict=False), start=1):
            ax.annotate(str(i), place, (7, 5), textcoords="offset points", fontsize=8)
        scale(ax.xaxis, x)
        scale(ax.yaxis, y)
        ax.set(xlabel=label)
        ax.grid(alpha=0.3)
    panels[0].set_ylabel(LABELS[measure])
    panels[0].legend()
    names.axis("off")
    text = "\n".join(f"{i:2}  {_name(c, ranking.axes)}" for i, c in enumerate(cells[:NAMED], 1))
    names.text(0, 1, text, transform=names.transAxes, va="top", fontsize=8)
    return figure


def densities(ranking: Ranking) -> Figure | None:
    """What one run of each of the best cells learned, after the truth if it is known.

    On one colour scale. None unless the data are in the plane, without context.
    """
    import torch

    from flowlab.runs.reading import flow_of

    shown = ranking.cells[:MULTIPLES]
    flows = [flow_of(cell.runs[0].folder) for cell in shown]
    if any(flow is None or flow.shape != (2,) or flow.context for flow in flows):
        return None
    truth = truth_of(shown[0].runs[0])
    extent = extent_of(truth, flows[0])
    axis = torch.linspace(-extent, extent, 80)
    points = torch.cartesian_prod(axis, axis)
    panels = [
        (_panel_title(cell, ranking), on_grid(flow.log_prob, points.to(flow.base.loc)))
        for cell, flow in zip(shown, flows, strict=True)
    ]
    if truth is not None:
        panels.insert(0, ("truth", on_grid(truth.log_prob, points)))
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = empty_figure(2 * columns, 2.35 * rows + 0.4)
    top = MaxNLocator(12).tick_values(0, max(float(density.max()) for _, density in panels))
    for i, (title, density) in enumerate(panels):
        ax = figure.add_subplot(rows, columns, i + 1)
        ax.contourf(axis.numpy(), axis.numpy(), density, top, cmap=COLORMAP)
        ax.set_title(title, fontsize=9)
        ax.set(aspect="equal", xticks=[], yticks=[])
    axes, few = ", ".join(map(plain, ranking.axes)), len(ranking.cells) > len(shown)
    which = f"the best {len(shown)} of {len(ranking.cells)} cells" if few else "the best first"
    figure.suptitle(textwrap.fill(f"{axes}: {which}" if axes else which, 26 * columns), fontsize=10)
    return figure


def exported(cell: Cell, measure: str) -> tuple[int, float]:
    """Which replicate of a cell's first run `load` gives, and how good that one is."""
    run = cell.runs[0]
    index = run.metrics.get("best_replicate", 0)
    return index, run.values(measure)[index]


def _panel_title(cell: Cell, ranking: Ranking) -> str:
    """A cell's values, in the order of the axes; and of the flow that is shown, how good it is."""
    values = textwrap.shorten(", ".join(map(plain, map(rounded, cell.values))), 24, placeholder="…")
    (index, value), run = exported(cell, ranking.measure), cell.runs[0]
    return f"{values}\n{TESTS[ranking.measure]} {value:.3f}, seed {run.seed + index}".strip()


def _name(cell: Cell, axes: Sequence[str]) -> str:
    """What tells a cell from the others."""
    return ", ".join(plain(f"{k}={rounded(v)}") for k, v in zip(axes, cell.values, strict=True))
