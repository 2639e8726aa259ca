"""Rows of another file than that of the training: what is wrong with them, before they are used."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowlab.data import text
from flowlab.data.cells import faults, is_whole, rows_of, say_text
from flowlab.data.names import near_names
from flowlab.data.reading import Table
from flowlab.errors import DataError
from flowlab.schema import LARGEST


class Found(NamedTuple):
    """What a look at all rows has found."""

    num: int  # rows
    whole: Collection[str]  # columns that hold whole numbers alone


def check_columns(table: Table, names: Sequence[str], new: Collection[str]) -> None:
    """Check that a file has the columns that a flow needs, of numbers, and no `new` one yet.

    Raises DataError.
    """
    if missing := [name for name in names if name not in table.names]:
        others = [name for name in table.names if name not in names]
        said = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" * (len(missing) > 3))
        hint = near_names(missing[0], others or table.names)
        raise DataError(f"{table.label}: no column {said}, which the flow has; {hint}")
    if kinds := table.no_numbers(names):
        said = ", ".join(f"{name} holds {kind}" for name, kind in kinds.items())
        raise DataError(f"{table.label}: column {said}; the flow has numbers there")
    if there := [name for name in new if name in table.names]:
        raise DataError(
            f"{table.label}: has a column {there[0]} already; rename it, for that is what is added"
        )


def check_cells(
    table: Table, names: Sequence[str], missing: str, told: Callable[[int], object]
) -> Found:
    """Look at all rows, piece by piece; `told` hears of how many rows each.

    Raises DataError for text in a column of numbers, and for cells without a finite number unless
    `missing` is "keep".
    """
    num, whole = 0, dict.fromkeys(table.whole(names))
    faulty: dict[tuple[str, str], tuple[NDArray[np.int64], int]] = {}
    for piece in table.pieces():
        for name in names:
            numbers = table.number(piece, name)
            values = numbers.to_numpy()
            finite = np.isfinite(values)
            if not finite.all():
                _check_text(table, piece, name, num)
                for kind, where in faults(numbers).items():
                    first, count = faulty.get((name, kind), (np.empty(0, np.int64), 0))
                    first = np.append(first, np.flatnonzero(where) + num)[:3]
                    faulty[name, kind] = first, count + int(where.sum())
                values = values[~np.isnan(values)]
            if name in whole and not is_whole(values, LARGEST):
                del whole[name]
        num += piece.height
        told(piece.height)
    if faulty and missing == "error":
        places = [f"{n} is {k} in {rows_of(*where)}" for (n, k), where in faulty.items()]
        more = f" and {len(places) - 8} more" if len(places) > 8 else ""
        raise DataError(
            f"{table.label}: column {'; '.join(places[:8])}{more}; "
            "--missing keep gives such rows an empty score"
        )
    return Found(num, whole)


def _check_text(table: Table, piece: pl.DataFrame, name: str, before: int) -> None:
    """Check that what is not a number in a piece of a text file is nothing at all."""
    if table.layout is None:
        return
    found = piece.select(name).with_row_index("row", before).filter(text.no_number(name))
    if found.height:
        index = found["row"].to_numpy().astype(np.int64)
        said = say_text(found[name], index, mixed=found.height < before + piece.height)
        raise DataError(f"{table.label}: column {name} holds {said}; the flow has numbers there")
