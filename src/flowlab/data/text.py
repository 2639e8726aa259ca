"""Text files with columns: their separator, header and encoding, and what is wrong with them."""

import codecs
import csv
import gzip
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import polars as pl

from flowlab.errors import DataError

MISSING = ("", "NA", "N/A", "#N/A", "null", "NULL", "None", "?")  # how programs write no number
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
NO_SEPARATOR = "\x01"  # in no text
BLOCK = 2**20  # bytes that are read at once
LONGEST = 2**26  # bytes of a row
DATE = r"^\d{4}-\d\d?-\d\d?([T ].*)?$|^\d\d?[./]\d\d?[./]\d{2,4}$|^\d\d?:\d\d"


class Layout(NamedTuple):
    """How to read a text file."""

    separator: str
    header: bool
    names: tuple[str, ...]


def layout(label: str, path: Path, separator: str, header: str | bool) -> Layout:
    """Find out from its first rows how to read a text file.

    Raises DataError for one without rows or with another separator or encoding.
    """
    first = list(itertools.islice(filter(None, _records(path, separator)), 2))
    if not first:
        raise DataError(f"{label}: an empty file")
    if any("\ufffd" in cell or "\0" in cell for row in first for cell in row):
        raise DataError(not_utf8(label))
    row = [cell.strip() for cell in first[0]]
    below = [cell.strip() for cell in first[1]] if len(first) > 1 else []
    if len(row) == 1:
        _check_separator(label, separator, [separator.join(cells) for cells in first])
    if header == "auto":
        header = _is_header(row, below)
    if header and not below:
        raise DataError(f"{label}: a header and no rows below it; data.header=false if it is a row")
    names = tuple((header and name) or f"x{place}" for place, name in enumerate(row, start=1))
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{label}: columns of one name: {', '.join(sorted(twice))}; rename one")
    return Layout(separator, bool(header), names)


def scan(path: Path, layout: Layout) -> pl.LazyFrame:
    """The cells of a text file as strings, none where a cell is empty."""
    return pl.scan_csv(
        path,
        separator=layout.separator,
        has_header=layout.header,
        new_columns=list(layout.names),
        infer_schema=False,
        glob=False,
        truncate_ragged_lines=True,  # which `check_rows` tells of
    )


def number(name: str) -> pl.Expr:
    """The number in each cell of a column, and null where there is none."""
    return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)


def no_number(name: str) -> pl.Expr:
    """Whether a cell of a column holds text, instead of a number or nothing."""
    return number(name).is_null() & ~pl.col(name).str.strip_chars().is_in(MISSING)


def is_date(cell: str) -> bool:
    """Whether a cell looks like a date or a time."""
    return bool(pl.Series([cell]).str.strip_chars().str.contains(DATE).item())


def check_rows(label: str, path: Path, layout: Layout) -> int:
    """Check that all rows have as many cells; returns how many blank lines end the file.

    Separators are counted line by line at first, and only if these differ, maybe within quotes,
    row by row.
    """
    differs, blank = _differing(path, layout)
    if differs:
        _check_cells(label, path, layout)
    return blank


def _check_cells(label: str, path: Path, layout: Layout) -> None:
    """Check row by row that all have as many cells."""
    num = len(layout.names)
    records = itertools.dropwhile(lambda row: not row, _records(path, layout.separator))
    rows = itertools.islice(records, int(layout.header), None)
    others = ((i, len(row)) for i, row in enumerate(rows, start=1) if row and len(row) != num)
    if found := list(itertools.islice(others, 3)):
        said = ", ".join(f"row {i} has {count}" for i, count in found)
        raise DataError(
            f"{label}: rows of {num} cells expected, as the first has: {said}; a missing or "
            "unquoted separator?"
        )


def pieces(label: str, path: Path, layout: Layout, checked: bool) -> Iterator[pl.DataFrame]:
    """The cells of a text file as strings, some rows after the other, in little memory.

    Raises DataError for rows that have too few or too many cells, unless these have been checked.
    """
    names = list(layout.names)
    line = layout.separator.join(f"x{j}" for j in range(len(names))).encode() + b"\n"
    header = layout.header
    for block in _blocks(label, path):
        # with a header each, for a blank line is a row below one only
        block = block if header else line + block
        header = False
        if not checked and _differing(block, layout)[0]:
            _check_cells(label, path, layout)
            checked = True
        yield pl.read_csv(
            block,
            separator=layout.separator,
            new_columns=names,
            infer_schema=False,
            truncate_ragged_lines=True,
        )


def _blocks(label: str, path: Path) -> Iterator[bytes]:
    """The bytes of a text file in pieces of whole rows, without blank lines at its ends.

    A line that ends within quotes does not end a row.
    """
    with _open(path) as file:
        rest = file.read(BLOCK).removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
        more = rest
        while more:
            end = rest.rfind(b"\n", 0, len(rest.rstrip(b"\r\n"))) + 1
            within = rest.count(b'"', 0, end) % 2
            while end and within:
                before = rest.rfind(b"\n", 0, end - 1) + 1
                within ^= rest.count(b'"', before, end) % 2
                end = before
            if end:
                yield rest[:end]
            elif len(rest) > LONGEST:
                raise DataError(f"{label}: a row of over {LONGEST} bytes; a quote without its end?")
            more = file.read(BLOCK)
            rest = rest[end:] + more
    if rest := rest.rstrip(b"\r\n"):
        yield rest


def _open(path: Path) -> IO[bytes]:
    """A file as it was before it was packed."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], (gzip.open if packed else open)(path, "rb"))


def _differing(source: Path | bytes, layout: Layout) -> tuple[bool, int]:
    """Whether lines differ in how many separators they have, and how many blank ones end them."""
    lines = pl.scan_csv(
        source,
        separator=NO_SEPARATOR,
        quote_char=None,
        has_header=False,
        new_columns=["line"],
        infer_schema=False,
        encoding="utf8-lossy",
        glob=False,
    )
    line, num = pl.col("line"), len(layout.names)
    is_blank = line.is_null() | line.is_in(["\r"])
    differs = line.str.count_matches(layout.separator, literal=True) != num - 1
    last = pl.int_range(pl.len()).filter(~is_blank).max()
    counts = lines.select(differs=(differs & ~is_blank).any(), blank=pl.len() - 1 - last).collect(
        engine="streaming"
    )
    return bool(counts["differs"].item()), int(counts["blank"].item() or 0)


def not_utf8(label: str) -> str:
    """The line on another encoding."""
    return f"{label}: not in UTF-8; iconv -f LATIN1 -t UTF-8 (or -f UTF-16) rewrites a file"


def _records(path: Path, separator: str) -> Iterator[list[str]]:
    with (
        _open(path) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="") as lines,
    ):
        yield from csv.reader(lines, delimiter=separator)


def _check_separator(label: str, separator: str, cells: list[str]) -> None:
    """Check a file of one column: that no other separator gives several in its first rows."""
    for other, name in SEPARATORS.items():
        counts = {len(cell.split(other)) for cell in cells}
        if other != separator and min(counts) > 1 and (len(counts) == 1 or other not in ", "):
            ends = {",": ".csv", "\t": ".tsv"}
            what = f"name it {ends[other]}" if other in ends else "write it anew with commas"
            raise DataError(
                f"{label}: one column found, {cells[0]!r}; expected {SEPARATORS[separator]} "
                f"between columns and found {name}; {what}"
            )


def _is_header(row: list[str], below: list[str]) -> bool:
    """Whether a first row holds names: text alone, or text above numbers."""
    if not any(map(_is_number, row)):
        return any(cell not in MISSING for cell in row)
    pairs = zip(row, below, strict=False)
    return any(_is_text(cell) and _is_number(under) for cell, under in pairs)


def _is_number(cell: str) -> bool:
    return bool(pl.Series([cell]).cast(pl.Float64, strict=False).is_not_null().item())


def _is_text(cell: str) -> bool:
    return cell not in MISSING and not _is_number(cell)
