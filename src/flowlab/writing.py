"""Files with columns, written piece by piece in little memory, and whole or not at all."""

import queue
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from flowlab.errors import ConfigError, DataError, OutputError
from flowlab.files import whole
from flowlab.schema import numbered

SEPARATORS = {".csv": ",", ".tsv": "\t"}
FORMATS = (*SEPARATORS, ".parquet", ".npy")
ROW_GROUP = 2**17  # rows of a Parquet file that are packed together

Columns = Mapping[str, pl.DataType]
Write = Callable[[pl.DataFrame], None]


def check_output(path: Path) -> None:
    """Check that a file can be written there, whatever it is going to hold.

    Raises ConfigError for an unknown ending, and OutputError for a place that no file can have.
    """
    if path.suffix.lower() not in FORMATS:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ConfigError(f"-o {path}: unknown format; expected a name that ends in {formats}")
    if path.is_dir():
        raise OutputError(f"-o {path}: a directory; expected a file")
    if not path.parent.is_dir():
        raise OutputError(f"-o {path}: no such folder, {path.parent}; make it first")


@contextmanager
def writing(path: Path | None, columns: Columns, rows: int) -> Iterator[Write]:
    """A function that writes pieces of a table of so many rows, to a file or as CSV to the output.

    The file replaces what was there when all is written. An .npy is an array (N, D) if that says it
    all, floats in columns x1, x2, ..., and else one with named fields. Raises ConfigError for
    columns that the format cannot hold, OutputError for what goes wrong on the disk, and
    BrokenPipeError if nobody reads the output on.
    """
    end = ".csv" if path is None else path.suffix.lower()
    _check_columns(path, end, columns)
    try:
        if path is None:
            yield _text(sys.stdout.buffer, ",")
            sys.stdout.flush()
            return
        with whole(path) as part, _opened(part, end, columns, rows) as write:
            yield write
    except OSError as error:
        if isinstance(error, OutputError | BrokenPipeError):
            raise
        place = "standard output" if path is None else path
        raise OutputError(f"{place}: cannot be written to ({error.strerror or error})") from error


def _check_columns(path: Path | None, end: str, columns: Columns) -> None:
    for name, kind in columns.items():
        is_number = kind.is_numeric() or kind == pl.Boolean
        is_text = not kind.is_nested() and kind not in (pl.Object, pl.Binary)
        if not (is_number or end == ".parquet" or (is_text and end != ".npy")):
            raise ConfigError(
                f"-o {path or 'FILE'}: column {name} holds {kind}, which {end} cannot; "
                f"expected a name that ends in .parquet{' or .csv' * is_text}"
            )


@contextmanager
def _opened(path: Path, end: str, columns: Columns, rows: int) -> Iterator[Write]:
    if end == ".parquet":
        with _parquet(path, columns) as write:
            yield write
    elif end == ".npy":
        with _array(path, columns, rows) as write:
            yield write
    else:
        with path.open("wb") as file:
            yield _text(file, SEPARATORS[end])


def _text(file: IO[bytes], separator: str) -> Write:
    first = True

    def write(piece: pl.DataFrame) -> None:
        nonlocal first
        file.write(piece.write_csv(separator=separator, include_header=first).encode())
        first = False

    return write


@contextmanager
def _parquet(path: Path, columns: Columns) -> Iterator[Write]:
    """A thread of its own packs, and waits for pieces: this one can be interrupted."""
    waiting: queue.Queue[pl.DataFrame | None] = queue.Queue(2)

    def pieces(*hints: Any) -> Iterator[pl.DataFrame]:
        while (piece := waiting.get()) is not None:
            yield piece

    def pack() -> None:
        try:
            frame = register_io_source(pieces, schema=dict(columns))
            frame.sink_parquet(path, row_group_size=ROW_GROUP)
        except pl.exceptions.PolarsError as error:
            raise OSError(str(error).partition("\n")[0]) from error

    with ThreadPoolExecutor(1) as pool:
        packed = pool.submit(pack)

        def put(piece: pl.DataFrame | None) -> None:
            taken = False
            while not (taken or packed.done()):
                with suppress(queue.Full):
                    waiting.put(piece, timeout=0.1)
                    taken = True
            if not taken:
                packed.result()  # raises what has ended it

        try:
            yield put
        finally:
            put(None)
        packed.result()


def _array_type(columns: Columns, rows: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if (*columns,) == numbered("x", len(columns)) and {*columns.values()} == {pl.Float64()}:
        return np.dtype(np.float64), (rows, len(columns))
    types = [(name, pl.Series([], dtype=kind).to_numpy().dtype) for name, kind in columns.items()]
    return np.dtype(types), (rows,)


@contextmanager
def _array(path: Path, columns: Columns, rows: int) -> Iterator[Write]:
    dtype, shape = _array_type(columns, rows)
    with warnings.catch_warnings(action="ignore"):  # of names beyond Latin-1, for old NumPys
        start = np.lib.format.open_memmap(path, "w+", dtype, shape).offset

    def write(piece: pl.DataFrame) -> None:
        if dtype.names is None:
            file.write(piece.to_numpy(order="c").tobytes())
            return
        array = np.empty(piece.height, dtype)
        for name in dtype.names:
            column = piece[name]
            if column.null_count() and not column.dtype.is_float():
                raise DataError(f"column {name} has empty cells, which .npy cannot; see .parquet")
            array[name] = column.to_numpy()
        file.write(array.tobytes())

    with path.open("r+b") as file:  # not through the map, which would stay in memory
        file.seek(start)
        yield write
