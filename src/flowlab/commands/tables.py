"""The tables of a report: cells with error bars, how they compare, and what papers say beside."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flowlab.commands.forms import Figure, Table, braces, markdown, render
from flowlab.errors import one_line
from flowlab.runs.comparing import (
    FEW,
    LEVEL,
    OVER_BOTH,
    OVER_POINTS,
    PAIRED,
    WELCH,
    Standing,
    compare,
    standing,
)
from flowlab.runs.figures import TESTS
from flowlab.runs.published import BY, NAME, published
from flowlab.runs.results import Cell, Ranking, Run, shared
from flowlab.runs.settings import rounded, trial_id


def to_markdown(
    runs: Sequence[Run], rankings: Sequence[Ranking], left_out: Sequence[str], output: Path
) -> str:
    """A table of cells for each data set, the best first, and below them what failed.

    Above them stands one of all data sets, where they have cells in common.
    """
    return "\n".join(_lines(runs, rankings, left_out, output)).rstrip() + "\n"


def first_table(rankings: Sequence[Ranking], output: Path) -> Table | None:
    """The table that says it all: that of several data sets, or else the first's."""
    together = shared(rankings)
    if together and together[0].axes:
        return _overview(together, standing(together))
    return _cells(rankings[0], output)[0] if rankings else None


def order(rankings: Sequence[Ranking]) -> list[tuple[str, ...]]:
    """The cells of data sets with the same axes, the lowest mean rank first."""
    return _order(shared(rankings)) if shared(rankings) else []


def _order(together: Sequence[Ranking]) -> list[tuple[str, ...]]:
    ranks = standing(together).ranks if together[0].axes else {}
    return sorted(ranks, key=lambda v: (ranks[v], sum(r.find(v) is None for r in together)))


def _lines(
    runs: Sequence[Run], rankings: Sequence[Ranking], left_out: Sequence[str], output: Path
) -> Iterator[str]:
    together = shared(rankings)
    if together and together[0].axes:
        where = standing(together)
        yield from (render(_overview(together, where), "md"), *_overview_legend(together, where))
        others = [ranking.data for ranking in rankings if ranking not in together]
        if others:
            yield f"Not in it, for other keys differ there: {', '.join(others)}."
        yield ""
    for ranking in rankings:
        if ranking.data:
            yield from (f"### {' '.join(ranking.data.split())}", "")
        table, tests = _cells(ranking, output)
        yield from (render(table, "md"), *_legend(ranking, tests))
        yield from () if ranking in together else _papers(ranking)
        yield ""
    failures = [run for run in runs if not run.completed]
    if failures:
        rows = []
        for run in failures:
            folder = os.path.relpath(run.folder, output)
            rows.append([folder, run.metrics["status"], str(run.metrics.get("error", ""))])
        yield from (*markdown(["failed", "status", "reason"], rows), "")
    yield from (f"left out: {line}" for line in left_out)


def _overview(rankings: Sequence[Ranking], where: Standing) -> Table:
    """A table of cells by data sets, and below them what papers say of these."""
    names = [f"{ranking.data} {ranking.measure}" for ranking in rankings]
    axes, marks = rankings[0].axes, [_marks(ranking)[0] for ranking in rankings]
    rows: list[list[str | Figure]] = []
    for values in _order(rankings):
        found = [ranking.find(values) for ranking in rankings]
        figures = [
            _figure(cell, ranking.measure, marked[ranking.cells.index(cell)]) if cell else "-"
            for cell, ranking, marked in zip(found, rankings, marks, strict=True)
        ]
        known = [cell for cell in found if cell]
        rank = f"{where.ranks[values]:.2f}"
        rows.append([*map(rounded, values), *figures, rank, *_sizes(known)])
    papers = [published(_published(ranking)) for ranking in rankings]
    below: list[list[str | Figure]] = []
    for flow in dict.fromkeys(flow for nlls in papers for flow in nlls):
        figures = [Figure(nlls[flow], digits=2) if flow in nlls else "-" for nlls in papers]
        below.append([flow, *[""] * (len(axes) - 1), *figures, *[""] * 4])
    head = [*axes, *names, "mean rank", "params", "seconds", "ms a step"]
    return Table(head, rows, below, frozenset(names))


def _sizes(cells: Sequence[Cell]) -> list[str]:
    """Parameters, seconds and milliseconds of a step, means over data sets."""
    params, seconds = (
        np.mean([cell.mean(size) for cell in cells]) for size in ("params", "seconds")
    )
    step = float(np.mean([cell.step_ms() for cell in cells]))
    return [f"{params:.0f}", f"{seconds:.1f}", "" if math.isnan(step) else f"{step:.2f}"]


def _published(ranking: Ranking) -> str:
    """The name under which papers have a ranking's data set; nothing for another."""
    names = {str(run.metrics.get(NAME, "")) for cell in ranking.cells for run in cell.runs}
    return names.pop() if len(names) == 1 and ranking.measure == "test/nll" else ""


def _cells(ranking: Ranking, output: Path) -> tuple[Table, set[str]]:
    """The table of one data set, and the tests that its marks are from."""
    known = [test for test in TESTS if any(cell.has(test) for cell in ranking.cells)]
    measures = [ranking.rank, *known]
    marks, tests = _marks(ranking)
    rows: list[list[str | Figure]] = []
    for mark, cell in zip(marks, ranking.cells, strict=True):
        figures = [_figure(cell, measure) if cell.has(measure) else "" for measure in measures]
        folders = [os.path.relpath(run.folder, output) for run in cell.runs]
        row = [mark, *map(rounded, cell.values), str(len(cell.by_seed(ranking.rank)))]
        runs = [trial_id(cell.runs[0].settings), braces(folders)]
        rows.append([*row, *figures, *_sizes([cell]), *runs])
    head = ["", *ranking.axes, "seeds", *measures, "params", "seconds", "ms a step", "id", "runs"]
    return Table(head, rows, [], frozenset(measures)), tests


def _marks(ranking: Ranking) -> tuple[list[str], set[str]]:
    """How each cell compares with the best, and the tests that say so."""
    marks, tests = ["best"], set()
    for cell in ranking.cells[1:]:
        p, test = compare(ranking.cells[0], cell, ranking.measure)
        gap = ranking.cells[0].mean(ranking.measure) - cell.mean(ranking.measure)
        better = gap < 0 if ranking.measure == "test/elbo" else gap > 0
        marks.append("=" if p > LEVEL or (test and better) else "")
        tests |= {test} - {""}
    return marks, tests


def _figure(cell: Cell, measure: str, mark: str = "") -> Figure:
    return Figure(cell.mean(measure), cell.error(measure), mark)


def _legend(ranking: Ranking, tests: set[str]) -> Iterator[str]:
    told = f"ranked by {ranking.rank}; runs are folders beside this table."
    yield f"Nats, {_error([ranking])}; {told}"
    if tests:
        yield f"= {ranking.measure} not significantly worse than the best's: {_named(tests)},"
        yield f"two-sided, p > {LEVEL}, uncorrected; blank where it is, or cannot be told."


def _papers(ranking: Ranking) -> Iterator[str]:
    if figures := published(_published(ranking)):
        said = ", ".join(f"{flow} {nll:.2f}" for flow, nll in figures.items())
        yield f"Published test/nll; {_recognised(ranking)}: {said}."


def _recognised(ranking: Ranking) -> str:
    """What papers call a data set, and what it was recognised by."""
    by = ranking.cells[0].runs[0].metrics.get(BY, "name")
    return f"{ranking.data or 'the data'} taken for {_published(ranking)} by {one_line(by, 20)}"


def _named(tests: set[str]) -> str:
    """Tests in words, of several those first that need the most in common."""
    return ", else ".join(test for test in (OVER_BOTH, PAIRED, WELCH, OVER_POINTS) if test in tests)


def _overview_legend(rankings: Sequence[Ranking], where: Standing) -> Iterator[str]:
    yield f"Nats, {_error(rankings)}; rows by their mean rank, where a missing cell is the last."
    yield f"best: by {rankings[0].rank}; =: not significantly worse, as in the tables below;"
    yield "params, seconds and ms a step are means of a row, of a step that trains all replicates."
    if known := [_recognised(ranking) for ranking in rankings if published(_published(ranking))]:
        yield f"Rows with a year are published ones, without errors; {', '.join(known)}."
    if not math.isnan(where.critical):
        alike = f"Friedman's test that all flows rank alike: p = {where.p:.2g}"
        yield f"{alike}; mean ranks are told apart from {where.critical:.2f} on (Nemenyi, 5 %)."
        if len(rankings) < FEW:
            yield f"{len(rankings)} data sets are few for either: differences may well be missed."
    else:
        yield "Fewer than three rows are too few for a test of ranks."


def _error(rankings: Sequence[Ranking]) -> str:
    several = any(
        len(cell.by_seed(ranking.rank)) > 1 for ranking in rankings for cell in ranking.cells
    )
    return "mean ± standard error over the seeds" if several else "one seed each, no error known"
