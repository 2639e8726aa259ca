"""What `sample` and `score` share: their arguments, the flow, the bar, one line for a mistake."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flowlab import signals
from flowlab.errors import ConfigError, OutputError

if TYPE_CHECKING:
    import polars as pl

    from flowlab.flows import Flow
    from flowlab.schema import Schema


class Parser(argparse.ArgumentParser):
    """The words of a command; a mistake in them is one line."""

    def __init__(self, command: str, description: str):
        super().__init__(
            prog=f"python -m flowlab {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


class Arguments(Parser):
    """The words of a command that uses a RUN and may write to a file."""

    def __init__(self, command: str, description: str):
        super().__init__(command, description)
        self.add_argument(
            "run", metavar="RUN", help="a run directory, a flow.safetensors, or latest"
        )
        self.add_argument(
            "-o",
            dest="output",
            metavar="FILE",
            type=Path,
            help="a .csv, .tsv, .parquet or .npy to write, whole or not at all; it replaces what "
            "was there (standard output, as CSV)",
        )

    def of(self, words: Sequence[str]) -> argparse.Namespace:
        """What the words say, once FILE can be written to."""
        args = self.parse_args(words)
        if args.output is not None:
            from flowlab.writing import check_output

            check_output(args.output)
        elif sys.stdout is None:
            raise OutputError("standard output: closed; -o names a file to write")
        return args


class Used(NamedTuple):
    """A flow of rows of numbers, and what its columns are."""

    run: Path
    flow: "Flow"
    schema: "Schema"


def opened(run: str) -> Used:
    """Load what RUN stands for.

    Raises ConfigError if nothing is there or it is not of rows of numbers, and ModelFileError.
    """
    from flowlab.export import load_with_schema
    from flowlab.files import run_at
    from flowlab.flows import Flow
    from flowlab.schema import Schema

    path = run_at(run)
    if run == "latest":
        print(f"run {path}", file=sys.stderr)
    try:
        flow, schema = load_with_schema(path)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(flow, Flow) or len(flow.shape) != 1:
        raise ConfigError(
            f"{path}: a flow of points of shape {tuple(flow.shape)}; expected rows; of others "
            f"flowlab.load({str(path)!r}).sample(10) gives some in Python"
        )
    return Used(path, flow, schema or Schema.plain(flow.shape[0], flow.context))


def write(
    pieces: "Iterable[pl.DataFrame]",
    columns: "Mapping[str, pl.DataType]",
    num: int,
    what: str,
    output: Path | None,
) -> None:
    """Write pieces of so many rows, with a bar; a signal ends it after the next one.

    Raises SystemExit with 128 + its number then, when nothing is left behind.
    """
    from flowlab.writing import writing

    noted = signals.Noted()
    if output is not None:  # else there is nothing to clear away, and a reader may keep it waiting
        noted.start()
    try:
        with bar(num, what, output) as shown, writing(output, columns, num) as write_piece:
            for piece in pieces:
                write_piece(piece)
                shown.update(piece.height)
                if noted.signum:
                    sys.exit(128 + noted.signum)
    finally:
        noted.stop()


def bar(total: int, what: str, output: Path | None) -> Any:
    """A progress bar on a terminal, unless the rows themselves go there."""
    from tqdm import tqdm

    hidden = True if output is None and sys.stdout.isatty() else None
    return tqdm(
        total=total,
        desc=what,
        unit=" rows",
        unit_scale=True,
        disable=hidden,
        dynamic_ncols=True,
        leave=False,
    )
