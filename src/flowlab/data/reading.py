"""Files with columns: text, Parquet, Arrow and NumPy's, each as one lazy frame of polars."""

import difflib
import glob
import json
import re
import shlex
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from flowlab.data import text
from flowlab.errors import DataError
from flowlab.schema import PIECE

TEXT = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
FORMATS = (*TEXT, ".parquet", ".arrow", ".feather", ".npy", ".npz")
EXACT = (pl.Boolean, pl.Int8, pl.Int16, pl.UInt8, pl.UInt16, pl.Float32)  # in float32


@dataclass(frozen=True)
class Table:
    """A file with columns, of which nothing but the names and types has been read.

    `label` begins messages. The cells of a `text` file are strings. Rows are counted from 1,
    without the header.
    """

    label: str
    path: Path
    frame: pl.LazyFrame
    names: tuple[str, ...]
    layout: text.Layout | None = None
    by_rows: bool = False  # then the frame of an .npy holds its first rows alone

    def pieces(self, checked: bool = False) -> Iterator[pl.DataFrame]:
        """All cells as they are, at most `PIECE` rows at once, in order, in a memory of that size.

        Raises DataError for what cannot be read, and for rows of a text file that have too few or
        too many cells, unless these have been `checked`.
        """
        with readable(self.label):
            if self.layout is not None:
                for piece in text.pieces(self.label, self.path, self.layout, checked):
                    yield from piece.iter_slices(PIECE)
                return
            first = 0
            while (piece := self._from(first)).height:
                yield piece
                first += piece.height

    def _from(self, first: int) -> pl.DataFrame:
        """At most `PIECE` rows of a file that is not text."""
        if self.by_rows and self.path.suffix.lower() == ".npy":
            return _rows(self.path, first)
        return self.frame.slice(first, PIECE).collect()

    def number(self, piece: pl.DataFrame, name: str) -> pl.Series:
        """The numbers in a column of a piece; null where a cell is empty or text."""
        number = pl.col(name).cast(pl.Float64) if self.layout is None else text.number(name)
        return piece.select(number).to_series()

    def numbers(self, names: Sequence[str]) -> pl.LazyFrame:
        """Columns as Float32 where that holds their type, and else as Float64.

        Cells that are empty or text are null. Those of a text file are in memory then; of other
        files each column is read when it is collected. Raises DataError for columns of another
        type, and for rows of a text file that have too few or too many cells.
        """
        with readable(self.label):
            if self.layout is not None:
                cells = [text.number(name) for name in names]
                frame = self.frame.select(cells).collect(engine="streaming")
                blank = text.check_rows(self.label, self.path, self.layout)
                return frame.head(frame.height - blank).lazy()
            if others := self.no_numbers(names):
                raise DataError(self.explain(others))
            schema = self.types
            types = {n: pl.Float32 if schema[n] in EXACT else pl.Float64 for n in names}
            return self.frame.select(pl.col(name).cast(kind) for name, kind in types.items())

    @property
    def types(self) -> dict[str, pl.DataType]:
        """Of all columns."""
        if self.layout is not None:
            return dict.fromkeys(self.names, pl.String())
        return dict(self.frame.collect_schema())

    def no_numbers(self, names: Sequence[str]) -> dict[str, str]:
        """The columns whose type is not of numbers, with what they hold; of text files none."""
        types = self.types if self.layout is None else {}
        return {n: kind for n in names if n in types and (kind := _no_numbers(types[n]))}

    def whole(self, names: Sequence[str]) -> list[str]:
        """Those of some columns whose type holds whole numbers alone, or may as text does."""
        types = self.types
        kinds = (pl.String, pl.Boolean)
        return [name for name in names if types[name].is_integer() or types[name] in kinds]

    def explain(self, others: dict[str, str]) -> str:
        """The line on columns that hold no numbers, with what they hold."""
        said = ", ".join(f"{name} holds {kind}" for name, kind in others.items())
        return (
            f"{self.label}: a density needs numbers: column {said}; "
            f"{leave_out(others)} leaves out, data.columns chooses"
        )


def leave_out(names: Iterable[str]) -> str:
    """The word for a shell that leaves columns out, with the quotes that it and Hydra need.

    >>> print(leave_out(["a", "b"]), leave_out(["k (x)"]))
    data.drop=[a,b] 'data.drop=["k (x)"]'
    """
    plain = all(re.fullmatch(r"\w+", name, re.ASCII) for name in names)
    quoted = [name if plain else json.dumps(name, ensure_ascii=False) for name in names]
    word = f"data.drop=[{','.join(quoted)}]"
    return word if plain else shlex.quote(word)


def key_of(name: str) -> str:
    """A column's name as a key within braces, as Hydra reads it."""
    return re.sub(r"([\\()\[\]{}:=,])", r"\\\1", name)


def read(
    path: str | Path, header: str | bool = "auto", key: str = "", by_rows: bool = False
) -> Table:
    """Open a file with columns, its format told by how its name ends.

    `header` says of text whether the first row holds names; with "auto" it does if there is text
    above numbers. Columns without a name are called x1, x2, ... by their place, arrays in a .npz
    by their own. `key` is what the path is a value of. One to be read `by_rows` has `pieces` alone
    to offer, and leaves an .npy on the disk. Raises DataError for what cannot be read.
    """
    path = Path(path)
    label = f"{key}={path}" if key else str(path)
    end = next((end for end in FORMATS if path.name.lower().endswith(end)), None)
    with readable(label):
        check_file(label, path)
        if end is None:
            raise DataError(f"{label}: unknown format; expected a name that ends in {_listed()}")
        layout = None
        if end in TEXT:
            layout = text.layout(label, path, TEXT[end], header)
            frame, names = text.scan(path, layout), layout.names
        else:
            at_once = not by_rows or end != ".npy"
            frame = _scan(label, path, end) if at_once else _rows(path, 0).lazy()
            names = tuple(frame.collect_schema().names())
            if not names or frame.select(pl.len()).collect().item() == 0:
                raise DataError(f"{label}: no rows; expected one for each point")
    return Table(label, path, frame, names, layout, by_rows)


@contextmanager
def readable(label: str) -> Iterator[None]:
    """One line for whatever a reader says of a file."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{label}: no permission to read it; see chmod") from error
    except (OSError, EOFError, zipfile.BadZipFile, ValueError, pl.exceptions.PolarsError) as error:
        if isinstance(error, DataError):
            raise
        if "utf-8" in str(error):
            raise DataError(text.not_utf8(label)) from error
        what = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{label}: damaged, or not of the format that its name says ({what})"
        ) from error


def _listed() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def check_file(label: str, path: Path) -> None:
    """Check that there is a file with something in it. Raises DataError."""
    if path.is_dir():
        raise DataError(f"{label}: a directory; expected a file")
    if not path.exists():
        others = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, others, n=2, cutoff=0.75)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"looked in {path.absolute().parent}"
        )
        raise DataError(f"{label}: no such file; {hint}")
    with path.open("rb") as file:
        if not file.read(1):
            raise DataError(f"{label}: an empty file")


def _scan(label: str, path: Path, end: str) -> pl.LazyFrame:
    if end == ".parquet":
        return pl.scan_parquet(path, glob=False)
    if end in (".arrow", ".feather"):
        return pl.scan_ipc(glob.escape(str(path)))
    if end == ".npy":
        return pl.LazyFrame(_columns("x", np.lib.format.open_memmap(path, mode="r")))
    columns: list[pl.Series] = []
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            columns += _columns(name, arrays[name], alone=arrays[name].ndim == 1)
    lengths = {column.name: len(column) for column in columns}
    if len({*lengths.values()}) > 1:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"{label}: arrays of one length expected, one row for each point: {said}")
    return pl.LazyFrame(columns)


def _rows(path: Path, first: int) -> pl.DataFrame:
    """At most `PIECE` rows of an .npy, the others left on the disk.

    It is opened for them alone, because what has been read of a map stays in memory.
    """
    array = np.lib.format.open_memmap(path, mode="r")
    return pl.DataFrame(_columns("x", array[first : first + PIECE]))


def _columns(name: str, array: np.ndarray, alone: bool = False) -> list[pl.Series]:
    """The columns of an array (N,) or (N, D), or of one with named fields."""
    if array.dtype.names:
        return [pl.Series(field, np.ascontiguousarray(array[field])) for field in array.dtype.names]
    if array.ndim not in (1, 2):
        raise ValueError(f"an array of shape {array.shape}; expected (rows, columns)")
    if alone:
        return [pl.Series(name, array)]
    array = array if array.ndim == 2 else array[:, None]
    prefix = name if name == "x" else f"{name}_"
    return [
        pl.Series(f"{prefix}{j + 1}", np.ascontiguousarray(array[:, j]))
        for j in range(array.shape[1])
    ]


def _no_numbers(kind: pl.DataType) -> str:
    """What a column of such a type holds, if these are no numbers."""
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return ""
    if kind.is_temporal():
        return "dates or times"
    is_text = kind in (pl.String, pl.Categorical, pl.Enum)
    return "text" if is_text else f"values of type {kind}"
