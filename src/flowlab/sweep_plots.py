"""Pictures of a sweep: cells in, matplotlib figures out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from flowlab.plots import BLUE, COLORMAP, ORANGE

if TYPE_CHECKING:
    from flowlab.report import Cell

MULTIPLES = 16
NAMES = ("curve", "heatmap-*", "axes", "pareto", "densities")  # patterns of what `figures` gives
KL, LABEL = "test/kl", "test KL (nats)"


def figures(cells: Sequence[Cell], axes: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of each picture that suits the axes that vary."""
    if len(axes) == 1:
        yield "curve", curve(cells, axes[0])
    elif axes and _is_grid(cells, axes):
        for row, column in itertools.combinations(range(len(axes)), 2):
            yield f"heatmap-{axes[row]}-{axes[column]}", heatmap(cells, axes, row, column)
    elif axes:
        yield "axes", scatter(cells, axes)
    if len(cells) > 1:
        yield "pareto", pareto(cells)
    yield "densities", densities(cells, axes)


def _is_grid(cells: Sequence[Cell], axes: Sequence[str]) -> bool:
    """Whether most combinations of the axes' values have a cell, as they have not in a search."""
    size = math.prod(len({cell.values[i] for cell in cells}) for i in range(len(axes)))
    return 2 * len(cells) > size


def heatmap(cells: Sequence[Cell], axes: Sequence[str], row: int, column: int) -> Figure:
    """The mean test KL over two axes, averaged over the others; the lowest is framed."""
    rows, columns = (_ordered(cell.values[i] for cell in cells) for i in (row, column))
    table = np.full((len(rows), len(columns)), np.nan)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            here = [c.mean(KL) for c in cells if (c.values[row], c.values[column]) == (y, x)]
            table[i, j] = np.mean(here) if here else np.nan
    figure = Figure(figsize=(2.5 + 1.1 * len(columns), 1.8 + 0.8 * len(rows)), dpi=100)
    figure.set_layout_engine("constrained")
    ax = figure.add_subplot()
    image = ax.imshow(table, cmap=f"{COLORMAP}_r", origin="lower", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (i, j), value in np.ndenumerate(table):
        text = "-" if math.isnan(value) else f"{value:.3f}"
        ax.text(j, i, text, ha="center", va="center", color="white" if value > middle else "black")
    low, left = np.unravel_index(np.nanargmin(table), table.shape)
    frame = Rectangle((left - 0.47, low - 0.47), 0.94, 0.94, fill=False, edgecolor=ORANGE, lw=3)
    ax.add_patch(frame)
    others = ", mean over the other keys" if len(axes) > 2 else ""
    ax.set(
        xticks=range(len(columns)),
        xticklabels=columns,
        yticks=range(len(rows)),
        yticklabels=rows,
        xlabel=axes[column],
        ylabel=axes[row],
        title=f"{LABEL}{others}",
    )
    figure.colorbar(image, label=LABEL)
    return figure


def curve(cells: Sequence[Cell], axis: str) -> Figure:
    """The mean test KL along one axis, with a band (or bars) of one standard error."""
    values = _ordered(cell.values[0] for cell in cells)
    by_value = {cell.values[0]: cell for cell in cells}
    means = np.array([by_value[value].mean(KL) for value in values])
    errors = np.nan_to_num([by_value[value].error(KL) for value in values])
    figure = Figure(figsize=(7, 4.5), dpi=100)
    figure.set_layout_engine("constrained")
    ax = figure.add_subplot()
    if all(_number(value) is not None for value in values):
        x = [float(value) for value in values]
        ax.set_xscale(_scale(x))
        ax.plot(x, means, "o-", color=BLUE)
        ax.fill_between(x, means - errors, means + errors, color=BLUE, alpha=0.25)
        ax.set_xticks(x, values)
        ax.minorticks_off()
    else:
        ax.errorbar(values, means, errors, fmt="o", color=BLUE, capsize=4)
    ax.set(xlabel=axis, ylabel=LABEL, title="mean and one standard error over the seeds")
    ax.grid(alpha=0.3)
    return figure


def scatter(cells: Sequence[Cell], axes: Sequence[str]) -> Figure:
    """The test KL of every cell against each axis; the lowest is marked."""
    figure = Figure(figsize=(1 + 3.5 * len(axes), 4), dpi=100)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(axes), sharey=True)
    kls = [cell.mean(KL) for cell in cells]
    for i, (ax, axis) in enumerate(zip(panels, axes, strict=True)):
        x: Sequence[Any] = [cell.values[i] for cell in cells]
        if all(_number(value) is not None for value in x):
            x = [float(value) for value in x]
            ax.set_xscale(_scale(x))
        ax.scatter(x, kls, color=BLUE, s=20)
        ax.scatter(x[:1], kls[:1], color=ORANGE, s=90, marker="*", label="best")
        ax.set_yscale(_scale(kls))
        ax.set(xlabel=axis)
        ax.grid(alpha=0.3)
    panels[0].set_ylabel(LABEL)
    panels[0].legend()
    return figure


def _scale(values: Sequence[float]) -> str:
    return "log" if 0 < 20 * min(values) < max(values) else "linear"


def pareto(cells: Sequence[Cell]) -> Figure:
    """Test KL against parameters and against seconds of training, with the front of each."""
    figure = Figure(figsize=(10, 4.5), dpi=100)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2, sharey=True)
    labels = {"params": "parameters", "seconds": "seconds of training"}
    for ax, (measure, label) in zip(axes, labels.items(), strict=True):
        points = sorted((cell.mean(measure), cell.mean(KL)) for cell in cells)
        lowest = np.minimum.accumulate([kl for _, kl in points])
        front = [point for point, low in zip(points, lowest, strict=True) if point[1] == low]
        errors = np.nan_to_num([cell.error(KL) for cell in cells])
        x, y = ([cell.mean(m) for cell in cells] for m in (measure, KL))
        ax.errorbar(x, y, errors, fmt="o", color=BLUE, capsize=3, label="cells")
        ax.step(*zip(*front, strict=True), where="post", color=ORANGE, label="Pareto front")
        ax.set(xlabel=label)
        ax.grid(alpha=0.3)
        ax.legend()
    axes[0].set_ylabel(LABEL)
    return figure


def densities(cells: Sequence[Cell], axes: Sequence[str]) -> Figure:
    """What the best cells learned, one run of each, as small multiples on one colour scale."""
    import torch

    from flowlab.export import load

    shown = cells[:MULTIPLES]
    axis = torch.linspace(-4, 4, 80)
    points = torch.cartesian_prod(axis, axis)
    learned = []
    for cell in shown:
        flow = load(cell.runs[0].folder)
        with torch.no_grad():
            density = flow.log_prob(points.to(flow.base.loc)).exp()
        learned.append(density.reshape(80, 80).T.numpy())
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows + 0.4), dpi=100)
    figure.set_layout_engine("constrained")
    top = MaxNLocator(12).tick_values(0, max(float(density.max()) for density in learned))
    for i, (cell, values) in enumerate(zip(shown, learned, strict=True)):
        ax = figure.add_subplot(rows, columns, i + 1)
        ax.contourf(axis.numpy(), axis.numpy(), values, top, cmap=COLORMAP)
        name = ", ".join(f"{key}={value}" for key, value in zip(axes, cell.values, strict=True))
        metrics = cell.runs[0].metrics
        kl = metrics.get(f"{KL}_best", metrics[KL])  # of the replicate that was exported
        ax.set_title(f"{name}\nKL {kl:.3f} nats", fontsize=8)
        ax.set(aspect="equal", xticks=[], yticks=[])
    figure.suptitle("learned densities, the best cells first")
    return figure


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _ordered(values: Iterator[str]) -> list[str]:
    """Each value once: numbers by their size, and words by the alphabet."""
    return sorted(set(values), key=lambda v: (_number(v) is None, _number(v) or 0.0, v))
