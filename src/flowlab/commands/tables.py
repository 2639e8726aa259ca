"""The tables of a report, in Markdown: cells with error bars, and how they compare."""

import itertools
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from flowlab.runs.figures import TESTS
from flowlab.runs.results import Cell, Ranking, Run, across
from flowlab.runs.settings import rounded, trial_id

PAIRED, WELCH = "paired t-test over the seeds", "Welch's t-test"


def to_markdown(
    runs: Sequence[Run], rankings: Sequence[Ranking], left_out: Sequence[str], output: Path
) -> str:
    """A table of cells for each data set, the best first, and below them what failed.

    Above them stands one of all data sets, where they have cells in common.
    """
    return "\n".join(_lines(runs, rankings, left_out, output)).rstrip() + "\n"


def _lines(
    runs: Sequence[Run], rankings: Sequence[Ranking], left_out: Sequence[str], output: Path
) -> Iterator[str]:
    if cells := across(rankings):
        yield from (*_table([*_overview(cells, rankings)]), "", *_overview_legend(rankings), "")
    for ranking in rankings:
        if ranking.data:
            yield from (f"### {' '.join(ranking.data.split())}", "")
        rows, tests = _rows(ranking, output)
        yield from (*_table(rows), "", *_legend(ranking, tests), "")
    failures = [run for run in runs if not run.completed]
    if failures:
        rows = [["failed", "status", "reason"]]
        for run in failures:
            folder = os.path.relpath(run.folder, output)
            rows.append([folder, run.metrics["status"], str(run.metrics.get("error", ""))])
        yield from (*_table(rows), "")
    yield from (f"left out: {line}" for line in left_out)


def _overview(cells: Sequence[tuple[str, ...]], rankings: Sequence[Ranking]) -> Iterator[list[str]]:
    """The rows of a table of cells by data sets, its head first."""
    names = (f"{ranking.data} {ranking.measure}" for ranking in rankings)
    yield [*rankings[0].axes, *names, "params", "seconds"]
    marks = [_marks(ranking)[0] for ranking in rankings]
    for values in cells:
        found = [ranking.find(values) for ranking in rankings]
        figures = [
            f"{_figure(cell, ranking.measure)} {marked[ranking.cells.index(cell)]}" if cell else "-"
            for cell, ranking, marked in zip(found, rankings, marks, strict=True)
        ]
        params, seconds = (
            np.mean([cell.mean(size) for cell in found if cell]) for size in ("params", "seconds")
        )
        yield [*map(rounded, values), *figures, f"{params:.0f}", f"{seconds:.1f}"]


def _rows(ranking: Ranking, output: Path) -> tuple[list[list[str]], set[str]]:
    """The rows of a table, its head first, and the tests that its marks are from."""
    known = [test for test in TESTS if any(cell.has(test) for cell in ranking.cells)]
    measures = [ranking.rank, *known]
    rows = [["", *ranking.axes, "seeds", *measures, "params", "seconds", "id", "runs"]]
    marks, tests = _marks(ranking)
    for mark, cell in zip(marks, ranking.cells, strict=True):
        figures = [_figure(cell, measure) if cell.has(measure) else "" for measure in measures]
        sizes = [f"{cell.mean('params'):.0f}", f"{cell.mean('seconds'):.1f}"]
        folders = [os.path.relpath(run.folder, output) for run in cell.runs]
        row = [
            mark,
            *map(rounded, cell.values),
            str(len(cell.by_seed(ranking.rank))),
            *figures,
            *sizes,
        ]
        rows.append([*row, trial_id(cell.runs[0].settings), braces(folders)])
    return rows, tests


def _marks(ranking: Ranking) -> tuple[list[str], set[str]]:
    """How each cell compares with the best, and the tests that say so."""
    marks, tests = ["best"], set()
    for cell in ranking.cells[1:]:
        p, test = compare(ranking.cells[0], cell, ranking.measure)
        gap = ranking.cells[0].mean(ranking.measure) - cell.mean(ranking.measure)
        better = gap < 0 if ranking.measure == "test/elbo" else gap > 0
        marks.append("=" if p > 0.05 or (test and better) else "")
        tests |= {test} - {""}
    return marks, tests


def _figure(cell: Cell, measure: str) -> str:
    return f"{cell.mean(measure):.4f} ± {cell.error(measure):.4f}".removesuffix(" ± nan")


def _legend(ranking: Ranking, tests: set[str]) -> Iterator[str]:
    told = f"ranked by {ranking.rank}; runs are folders beside this table."
    yield f"Nats, {_error([ranking])}; {told}"
    if tests:
        named = f"{PAIRED} where they agree, else {WELCH}" if len(tests) > 1 else tests.pop()
        yield f"= {ranking.measure} not significantly worse than the best's: {named},"
        yield "two-sided, p > 0.05, uncorrected; blank where it is, or cannot be told."


def _overview_legend(rankings: Sequence[Ranking]) -> Iterator[str]:
    yield f"Nats, {_error(rankings)}; rows by their mean rank, which is by {rankings[0].rank}."
    yield "best and = are those of the tables below; params and seconds are means of a row."


def _error(rankings: Sequence[Ranking]) -> str:
    several = any(
        len(cell.by_seed(ranking.rank)) > 1 for ranking in rankings for cell in ranking.cells
    )
    return "mean ± standard error over the seeds" if several else "one seed each, no error known"


def braces(names: Sequence[str]) -> str:
    """Names in a short form that a shell expands.

    >>> braces(["lr=1,seed=0", "lr=1,seed=1"]), braces([f"s{i}/a" for i in range(12)]), braces("a")
    ('lr=1,seed={0,1}', 's{0..11}/a', 'a')
    >>> braces([f"{'x' * 91}-{digest}" for digest in ("0f52d5d8", "1d55cde4")])
    '*-{0f52d5d8,1d55cde4}'
    """
    if max(map(len, names)) > 60:  # the digests that end long names of cells tell them apart
        names = [re.sub(r"[^/]+(?=-[0-9a-f]{8}$)", "*", name) for name in names]
    if len(names) == 1:
        return names[0]
    parts = [re.split(r"(\d+|\W)", name) for name in names]
    left = _common(parts)
    right = _common([part[left:][::-1] for part in parts])
    middles = ["".join(part[left : len(part) - right]) for part in parts]
    if all(re.fullmatch("0|[1-9][0-9]*", middle) for middle in middles):
        numbers = sorted(map(int, middles))
        middles = list(map(str, numbers))
        if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            middles = [f"{numbers[0]}..{numbers[-1]}"]
    tail = "".join(parts[0][len(parts[0]) - right :])
    return f"{''.join(parts[0][:left])}{{{','.join(middles)}}}{tail}"


def _common(parts: Sequence[Sequence[str]]) -> int:
    """How many of their first elements all have in common."""
    alike = (len(set(elements)) == 1 for elements in zip(*parts, strict=False))
    return len(list(itertools.takewhile(bool, alike)))


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    rows = [[" ".join(cell.split()).replace("|", "/") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for i, row in enumerate(rows):
        line = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"| {' | '.join(line)} |"
        if i == 0:
            yield f"| {' | '.join('-' * width for width in widths)} |"


def compare(best: Cell, other: Cell, measure: str) -> tuple[float, str]:
    """Two-sided p-value for equal means, and the test: paired where both have the same seeds.

    Cells that share a seed share points, initialisation and order, so that their difference is
    known better than either. nan unless both have two seeds.
    """
    first, second = best.by_seed(measure), other.by_seed(measure)
    if min(len(first), len(second)) < 2:
        return math.nan, ""
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        if first.keys() == second.keys():
            pairs = [(first[seed], second[seed]) for seed in first]
            p, test = stats.ttest_rel(*zip(*pairs, strict=True)).pvalue, PAIRED
        else:
            samples = list(first.values()), list(second.values())
            p, test = stats.ttest_ind(*samples, equal_var=False).pvalue, WELCH
    return 1.0 if math.isnan(p) else float(p), test  # nan where there is no difference at all
