"""How likely rows are to a trained flow: python -m flowlab score RUN new.csv -o scores.parquet."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.commands.terminal import one_line_errors
from flowlab.commands.using import Arguments, Used, bar, opened, write
from flowlab.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from flowlab.data.fresh import Found
    from flowlab.data.reading import Table

HELP = """Add to all rows of a file, in order,

    log_prob   the log-density of its columns, in nats, in the file's own units
    rank       the share of the training rows that are less likely: 0.001 is an anomaly

Other columns pass through. Numbers that data.noise had spread are scored in the middle of their
step. Outside of a column's data.support, log_prob is -inf and rank 0.
"""
NEW = ("log_prob", "rank")
TYPED = (".parquet", ".npy")  # formats in which what was text becomes numbers


def main(words: Sequence[str]) -> None:
    """Run the command."""
    with one_line_errors():
        args = _arguments(words)

        import polars as pl

        from flowlab.data.fresh import check_cells, check_columns
        from flowlab.data.reading import read

        table = read(args.file, by_rows=True)
        used = opened(args.run)
        if not used.schema.quantiles:
            print("warning: no training rows are known of this flow: no rank", file=sys.stderr)
        check_columns(table, used.schema.used, NEW)
        with bar(0, "check", args.output) as shown:
            found = check_cells(table, used.schema.used, args.missing, shown.update)
        typed = _types(table, used, found, args)
        columns = table.types | typed | dict.fromkeys(NEW, pl.Float64())
        pieces = (
            piece.with_columns(table.number(piece, name).cast(kind) for name, kind in typed.items())
            for piece in scores(table, used)
        )
        write(pieces, columns, found.num, "score", args.output)


def scores(table: "Table", used: Used) -> "Iterator[pl.DataFrame]":
    """The rows of a file with their log_prob and rank, one piece after the other.

    Both are null for rows without all numbers. A log-density that is no number, of a point so far
    out that the flow's own numbers end, is minus infinity.
    """
    import numpy as np
    import polars as pl
    import torch

    _, flow, schema = used
    dim = len(schema.names)
    for piece in table.pieces(checked=True):
        numbers = [table.number(piece, name).to_numpy() for name in schema.used]
        values = np.column_stack(numbers)
        known = np.isfinite(values).all(axis=1)
        x, context = schema.middles(values[known, :dim]), values[known, dim:]
        with torch.no_grad():
            result = flow.log_prob(x, context if flow.context else None)
        log_prob, rank = np.full((2, len(values)), np.nan)
        log_prob[known] = result.double().nan_to_num(-np.inf, np.inf, -np.inf).numpy()
        if schema.quantiles:
            rank[known] = schema.rank(log_prob[known])
        new = zip(NEW, (log_prob, rank), strict=True)
        yield piece.with_columns(pl.Series(name, v, nan_to_null=True) for name, v in new)


def _types(table: "Table", used: Used, found: "Found", args: Any) -> "dict[str, pl.DataType]":
    """Types for columns that were read from text as numbers, if what is written has types.

    Whole numbers of an array cannot have empty cells among them.
    """
    import polars as pl

    end = "" if args.output is None else args.output.suffix.lower()
    if table.layout is None or end not in TYPED:
        return {}
    whole = () if end == ".npy" and args.missing == "keep" else found.whole
    return {name: pl.Int64() if name in whole else pl.Float64() for name in used.schema.used}


def _arguments(words: Sequence[str]) -> Any:
    arguments = Arguments("score", HELP)
    arguments.add_argument(
        "file", metavar="FILE", type=Path, help="rows, in any format of data.path"
    )
    arguments.add_argument(
        "--missing",
        choices=("error", "keep"),
        default="error",
        help="what becomes of rows with a cell that is empty, NaN or infinite: an error, or an "
        "empty score in their place (error)",
    )
    args = arguments.of(words)
    both = [path for path in (args.output, args.file) if path is not None and path.exists()]
    if len(both) == 2 and both[0].samefile(both[1]):
        raise ConfigError(f"-o {args.output}: the file that is scored; choose another name")
    return args
