"""A table in each form: Markdown to read, CSV to compute with, LaTeX to print."""

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SIGNS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SIGNS |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"±": r"$\pm$"}


class Figure(NamedTuple):
    """A mean with its standard error, nan for none, and how it compares: best, = or nothing."""

    mean: float
    error: float = math.nan
    mark: str = ""
    digits: int = 4

    def __str__(self) -> str:
        return f"{self.said(' ± ')} {self.mark}".rstrip()

    def said(self, sign: str) -> str:
        """The mean and, behind a sign, its error."""
        error = "" if math.isnan(self.error) else f"{sign}{self.error:.{self.digits}f}"
        return f"{self.mean:.{self.digits}f}{error}"


class Table(NamedTuple):
    """Rows of words and figures, those `below` after a rule; `measured` columns have figures."""

    head: list[str]
    rows: list[list[str | Figure]]
    below: list[list[str | Figure]]
    measured: frozenset[str] = frozenset()


def render(table: Table, form: str) -> str:
    """A table as `md`, `csv` or `tex`, of booktabs, where the best and its equals are bold.

    In CSV a column of figures becomes three: the mean, its standard error and its mark.
    """
    return "\n".join({"md": _markdown, "csv": _csv, "tex": _latex}[form](table)) + "\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str | Figure]]) -> Iterator[str]:
    """The lines of a Markdown table whose columns stand below each other."""
    words = [[" ".join(str(c).split()).replace("|", "/") for c in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*words, strict=True)]
    for i, row in enumerate(words):
        line = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"| {' | '.join(line)} |"
        if i == 0:
            yield f"| {' | '.join('-' * width for width in widths)} |"


def _markdown(table: Table) -> Iterator[str]:
    yield from markdown(table.head, [*table.rows, *table.below])


def _csv(table: Table) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ((n, f"{n} stderr", f"{n} mark") if n in table.measured else (n,) for n in table.head)
    writer.writerow(name for group in names for name in group)
    for row in (*table.rows, *table.below):
        cells = zip(table.head, row, strict=True)
        writer.writerow(part for name, cell in cells for part in _parts(cell, name, table))
    yield from text.getvalue().splitlines()


def _parts(cell: str | Figure, name: str, table: Table) -> Sequence[object]:
    if isinstance(cell, Figure):
        return cell.mean, "" if math.isnan(cell.error) else cell.error, cell.mark
    return (cell, "", "") if name in table.measured else (cell,)


def _latex(table: Table) -> Iterator[str]:
    numeric = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.head))]
    yield f"\\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}"
    yield r"\toprule"
    yield _latex_row(table.head)
    yield r"\midrule"
    yield from map(_latex_row, table.rows)
    if table.below:
        yield r"\midrule"
        yield from map(_latex_row, table.below)
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _latex_row(row: Sequence[str | Figure]) -> str:
    return " & ".join(map(_latex_cell, row)) + r" \\"


def _latex_cell(cell: str | Figure) -> str:
    if not isinstance(cell, Figure):
        return "".join(SIGNS.get(sign, sign) for sign in " ".join(cell.split()))
    said = cell.said(r" \pm ")
    return rf"$\mathbf{{{said}}}$" if cell.mark else f"${said}$"


def _is_number(cell: str | Figure) -> bool:
    if isinstance(cell, Figure) or cell in ("", "-"):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


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
