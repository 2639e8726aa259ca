"""What every cell learned of every data set: rankings in, one matplotlib figure out."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from flowlab.plots.style import COLORMAP, Array, plain
from flowlab.plots.sweep import MULTIPLES, exported
from flowlab.plots.sweep_axes import empty_figure, extent_of, on_grid, truth_of
from flowlab.runs.figures import TESTS
from flowlab.runs.settings import rounded

if TYPE_CHECKING:
    from flowlab.runs.results import Ranking

PIXELS = 100  # along a side of a panel
SIDE = 1.6  # inches
MOST = 32  # data sets
ACROSS = 8  # of them beside each other; those after them are below


class Panel(NamedTuple):
    """A density on a grid of pixels, None where there is none, and what stands above it."""

    density: Array | None
    title: str = ""
    best: bool = False


class Column(NamedTuple):
    """A data set: its truth, its cells in the order of the rows, half the side of their squares."""

    name: str
    extent: float
    truth: Panel
    cells: list[Panel]


def overview(
    order: Sequence[tuple[str, ...]], rankings: Sequence[Ranking]
) -> Iterator[tuple[str, Figure]]:
    """Name and figure of small multiples: cells, in this order, by the data sets in the plane.

    There is none of fewer than two of these. Where nothing but the data differs, which leaves no
    order, each has its only cell.
    """
    alone = not any(ranking.axes for ranking in rankings)
    shown = [()] if alone else order[:MULTIPLES]
    columns = [c for r in rankings[:MOST] if (c := _column(shown, r)) is not None]
    if shown and len(columns) > 1:
        labels = [_label(rankings[0].axes, values) or "learned" for values in shown]
        figure = _multiples(columns, labels)
        few = f"the best {len(shown)} of {len(order)}" if len(order) > len(shown) else "all"
        said = "numbers are of the flow shown; bold: best by validation"
        if not alone:
            figure.suptitle(f"learned densities, {few} by mean rank,\n{said}", fontsize=10)
        yield "overview", figure


def _column(order: Sequence[tuple[str, ...]], ranking: Ranking) -> Column | None:
    """What the cells learned of a data set; None unless it is in the plane, without context."""
    import torch

    from flowlab.runs.reading import flow_of

    found = [ranking.find(values) for values in order]
    flows = [cell and flow_of(cell.runs[0].folder) for cell in found]
    known = [flow for flow in flows if flow]
    if not known or any(flow.shape != (2,) or flow.context for flow in known):
        return None
    target = truth_of(ranking.cells[0].runs[0])
    extent = extent_of(target, known[0])
    middles = extent * ((2 * torch.arange(PIXELS) + 1) / PIXELS - 1)
    points = torch.cartesian_prod(middles, middles)
    panels = []
    for cell, flow in zip(found, flows, strict=True):
        if cell and flow:
            density = on_grid(flow.log_prob, points.to(flow.base.loc))
            _, value = exported(cell, ranking.measure)
            title = f"{TESTS[ranking.measure]} {value:.3f}"
            best = cell is ranking.cells[0] and len(order) > 1
            panels.append(Panel(density, title, best))
        else:
            panels.append(Panel(None))
    truth = Panel(on_grid(target.log_prob, points) if target else None)
    return Column(ranking.data, extent, truth, panels)


def _label(axes: Sequence[str], values: Sequence[str]) -> str:
    """What a row is called: by its value where there is one axis, else with the keys."""
    pairs = zip(axes, map(rounded, values), strict=True)
    words = [plain(f"{key}={value}" if len(axes) > 1 else value) for key, value in pairs]
    return textwrap.fill(", ".join(words), 18, max_lines=6, placeholder=" …")


def _multiples(columns: Sequence[Column], labels: Sequence[str]) -> Figure:
    """A row for each label below one of the truth, if any is known; a colour scale a column."""
    known = any(column.truth.density is not None for column in columns)
    labels = ["truth", *labels] if known else labels
    width, blocks = min(len(columns), ACROSS), math.ceil(len(columns) / ACROSS)
    rows = blocks * len(labels)
    figure = empty_figure(1.4 + SIDE * width, 1.0 + (SIDE + 0.2) * rows)
    grid = figure.subplots(rows, width, squeeze=False)
    for label, ax in zip(blocks * list(labels), grid[:, 0], strict=True):
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
    places = [axes for block in np.split(grid, blocks) for axes in block.T]
    for ax in itertools.chain(*places[len(columns) :]):
        ax.axis("off")
    for column, axes in zip(columns, places, strict=False):
        panels = [column.truth, *column.cells] if known else column.cells
        drawn = [panel.density for panel in panels if panel.density is not None]
        top = np.median([np.nanmax(density) for density in drawn])  # one with a spike hides none
        sides = (-column.extent, column.extent)
        for ax, panel in zip(axes, panels, strict=True):
            ax.set(aspect="equal", xlim=sides, ylim=sides, xticks=[], yticks=[])
            ax.set_title(panel.title, fontsize=8, fontweight="bold" if panel.best else None)
            if panel.density is None:
                ax.text(0, 0, "none", ha="center", va="center", color="gray")
                continue
            look = {"cmap": COLORMAP, "vmin": 0, "vmax": top, "interpolation": "bilinear"}
            ax.imshow(panel.density, origin="lower", extent=(*sides, *sides), **look)
        name = textwrap.fill(plain(column.name), 22, max_lines=2, placeholder=" …")
        axes[0].set_title(f"{name}\n{axes[0].get_title()}".strip(), fontsize=10)
    return figure
