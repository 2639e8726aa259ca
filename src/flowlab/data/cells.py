"""The cells of a table's columns: which rows can be used, and what is wrong with the others."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab import processes
from flowlab.data import text
from flowlab.data.columns import Columns
from flowlab.data.reading import Table, leave_out, readable
from flowlab.errors import DataError
from flowlab.schema import LARGEST

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]  # of rows

WHOLE = 2**24  # float32 holds whole numbers up to it
FINE = 3e-6  # of a column's spread: how far float32 may be from its values


@dataclass(frozen=True)
class Rows:
    """The rows of a table that can be used."""

    table: Table
    columns: Columns
    numbers: pl.LazyFrame
    keep: Mask  # which of all
    wide: frozenset[str]  # columns whose values do not survive float32

    @property
    def index(self) -> NDArray[np.int64]:
        """The places of these rows in the table."""
        return np.flatnonzero(self.keep)

    @property
    def dropped(self) -> int:
        """How many rows are not among them."""
        return len(self.keep) - int(self.keep.sum())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each column "integer" or "float", as its type says or, of text, its numbers do."""
        whole = self.table.whole(self.columns.used)
        values = (_values(self.table, self.numbers, name)[self.keep] for name in whole)
        exact = {name for name, v in zip(whole, values, strict=True) if is_whole(v, LARGEST)}
        return tuple("integer" if name in exact else "float" for name in self.columns.used)

    def tensors(
        self, names: tuple[str, ...], parts: list[NDArray[np.int64]], kind: torch.dtype
    ) -> list[Tensor]:
        """For each part, an index of rows of the table, their cells (n, D); column by column."""
        found = [torch.empty(len(part), len(names), dtype=kind) for part in parts]
        for j, name in enumerate(names):
            values = _values(self.table, self.numbers, name)
            for tensor, part in zip(found, parts, strict=True):
                tensor[:, j] = torch.from_numpy(values[part])
        return found


def usable(table: Table, columns: Columns, missing: str) -> Rows:
    """Find the rows that can be used, reading one column after the other.

    Raises DataError for text, for cells without a finite number unless `missing` is "drop", and
    for values outside the support of their column.
    """
    numbers = table.numbers(columns.used)
    faulty: dict[str, Mask] = {}
    outside: dict[str, Mask] = {}
    wide: dict[str, bool] = {}
    keep: Mask = np.ones(1, bool)
    for name in columns.used:
        values = _values(table, numbers, name)
        finite = np.isfinite(values)
        if not finite.all():
            _check_text(table, name, values)
            faulty[name] = ~finite
        if (bad := _outside(values, columns, name) & finite).any():
            outside[name] = bad
        if values.dtype == np.float64:
            known = values[finite] if name in faulty else values
            wide[name] = _is_wide(known) or _meets_an_end(known, columns, name)
        keep = keep & finite
    if faulty and missing == "error":
        raise DataError(_say_missing(table, faulty, numbers, keep))
    if outside := {name: bad & keep for name, bad in outside.items() if (bad & keep).any()}:
        raise DataError(_say_outside(table, columns, outside, numbers))
    rows = Rows(table, columns, numbers, keep, frozenset(name for name in wide if wide[name]))
    _warn_of_whole(rows)
    return rows


def rows_of(index: NDArray[np.int64], num: int = 0) -> str:
    """Up to three rows, counted from 1, of how many; `num`, if these are the first ones alone.

    >>> rows_of(np.array([2])), rows_of(np.array([0, 1, 4, 7]))
    ('row 3', 'rows 1, 2, 5 and 1 more')
    """
    first = ", ".join(str(i + 1) for i in index[:3])
    num = num or len(index)
    more = f" and {num - 3} more" if num > 3 else ""
    return f"row{'s' * (num > 1)} {first}{more}"


def faults(numbers: pl.Series) -> dict[str, Mask]:
    """Where the cells of a column are no finite numbers, by what they are instead."""
    masks = {
        "empty": numbers.is_null(),
        "infinite": numbers.is_infinite().fill_null(False),
        "NaN": numbers.is_nan().fill_null(False),
    }
    return {kind: mask.to_numpy() for kind, mask in masks.items() if mask.any()}


def say_text(cells: pl.Series, index: NDArray[np.int64], mixed: bool) -> str:
    """What text some cells of a column hold, and where, maybe among numbers."""
    some = cells.head(3).to_list()
    kind = "dates or times" if text.is_date(some[0]) else "text"
    said = ", ".join(repr(cell) for cell in dict.fromkeys(some))
    return f"{kind}{' among numbers' * mixed}, {said} in {rows_of(index)}"


def _values(table: Table, numbers: pl.LazyFrame, name: str) -> NDArray[Any]:
    """A column, NaN where a cell is empty."""
    with readable(table.label):
        return numbers.select(name).collect().to_series().to_numpy()


def _is_wide(values: NDArray[np.float64]) -> bool:
    """Whether float32 merges whole numbers, or loses what a column's spread is made of."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = values - values.astype(np.float32)
        if len(values) == 0 or not error.any():
            return False
        large = np.abs(values).max() > WHOLE and is_whole(values)
        fine = np.sqrt(np.square(error).mean()) <= FINE * values.std()
    return large or not fine


def _warn_of_whole(rows: Rows) -> None:
    """Log which columns hold whole numbers that float32 merges."""
    whole = [n for n in rows.wide if is_whole(_values(rows.table, rows.numbers, n)[rows.keep])]
    if whole and processes.is_first():
        log.warning(
            f"warning: {rows.table.label}: {', '.join(sorted(whole))}: whole numbers beyond "
            f"{WHOLE}, which float32 cannot tell apart; they stay float64 until they are "
            f"standardised; {leave_out(sorted(whole))} if these only number the rows"
        )


def is_whole(values: NDArray[Any], most: float = math.inf) -> bool:
    """Whether numbers are whole, and none larger than `most`."""
    return bool(((values == np.rint(values)) & (np.abs(values) <= most)).all())


def _outside(values: NDArray[Any], columns: Columns, name: str) -> Mask:
    """Where values, with their noise, are not within a support; its ends are not, without noise."""
    low, high = columns.limits(name)
    if noise := dict(zip(columns.names, columns.noise, strict=True)).get(name):
        return (values < low) | (values + noise > high)
    return (values <= low) | (values >= high)


def _meets_an_end(values: NDArray[np.float64], columns: Columns, name: str) -> bool:
    """Whether float32 rounds values within a support to one of its ends."""
    with np.errstate(over="ignore"):
        rounded = _outside(values.astype(np.float32), columns, name)
    return bool((rounded & ~_outside(values, columns, name)).any())


def _check_text(table: Table, name: str, values: NDArray[Any]) -> None:
    """Check that what is not a number in a column of a text file is nothing at all."""
    if table.layout is None:
        return
    with readable(table.label):
        cells = table.frame.select(name).head(len(values)).with_row_index("row")
        found = cells.filter(text.no_number(name)).collect(engine="streaming")
    if found.height:
        index = found["row"].to_numpy().astype(np.int64)
        said = say_text(found[name], index, mixed=found.height < len(values))
        raise DataError(table.explain({name: said}))


def _say_missing(
    table: Table,
    faulty: dict[str, Mask],
    numbers: pl.LazyFrame,
    keep: Mask,
) -> str:
    said = []
    for name in list(faulty)[:8]:
        kinds = faults(numbers.select(name).collect().to_series())
        said += [
            f"{name} is {kind} in {rows_of(np.flatnonzero(where))}" for kind, where in kinds.items()
        ]
    more = f"; {len(faulty) - 8} more columns" if len(faulty) > 8 else ""
    help = (
        f"data.missing=drop leaves out these {int((~keep).sum())} of {len(keep)} rows, "
        "data.drop leaves out columns"
    )
    if hollow := [name for name, bad in faulty.items() if bad.all()]:
        help = f"{leave_out(hollow)} leaves out what has no numbers"
    return f"{table.label}: column {'; '.join(said)}{more}; {help}"


def _say_outside(
    table: Table,
    columns: Columns,
    outside: dict[str, Mask],
    numbers: pl.LazyFrame,
) -> str:
    said = []
    for name, bad in outside.items():
        support = columns.support[columns.names.index(name)]
        noise = columns.noise[columns.names.index(name)]
        within = "positive" if support == "positive" else f"within {columns.limits(name)}"
        rows = np.flatnonzero(bad)
        values = _values(table, numbers, name)[rows[:3]]
        with_noise = f" with its noise of {noise:g}" if noise else ""
        found = ", ".join(f"{value:g}" for value in dict.fromkeys(values.tolist()))
        said.append(f"{name}{with_noise} is not {within}: {found} in {rows_of(rows)}")
    return f"{table.label}: column {'; '.join(said)}; widen data.support or correct the file"
