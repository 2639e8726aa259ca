"""Rows drawn from a trained flow: python -m flowlab sample RUN -n 10000 -o samples.csv."""

import csv
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from flowlab.commands.terminal import one_line_errors
from flowlab.commands.using import Arguments, Used, opened, write
from flowlab.errors import ConfigError, NonFiniteError

if TYPE_CHECKING:
    import polars as pl

Number = TypeVar("Number", int, float)

HELP = """Draw rows from a trained flow, with the columns of the table that it was trained on.

Whole numbers come as whole numbers, back from where data.noise had spread them to. The same seed
gives the same rows, however many follow.
"""


def main(words: Sequence[str]) -> None:
    """Run the command."""
    with one_line_errors():
        args = _arguments(words)
        used = opened(args.run)
        context = _context(args.given, used)
        pieces = samples(used, args.n, args.seed, context, args.temperature)
        write(pieces, _columns(used), args.n, "sample", args.output)


def samples(
    used: Used, n: int, seed: int = 0, context: Any = None, temperature: float = 1.0
) -> "Iterator[pl.DataFrame]":
    """Draw n rows, one piece after the other, for a context (C,) if the flow needs one.

    The base is drawn in pieces of one size, of which the last is cut: so that the rows do not
    depend on how many they are. Raises NonFiniteError for rows that are not finite.
    """
    import numpy as np
    import polars as pl
    import torch

    from flowlab.rng import generator
    from flowlab.schema import PIECE

    run, flow, schema = used
    g = generator("sample", seed)
    for first in range(0, n, PIECE):
        with torch.no_grad():
            u = temperature * flow.base.sample(PIECE, g)[: n - first]
            x = flow.inverse(u, context)[0].double().numpy()
        if bad := int((~np.isfinite(x).all(axis=1)).sum()):
            raise NonFiniteError(f"{run}: {bad} of {len(x)} rows are not finite numbers")
        x = schema.with_whole(x, flow.config.get("support"))
        columns = _columns(used)
        yield pl.DataFrame(
            [
                pl.Series(name, x[:, j].astype(np.int64) if kind.is_integer() else x[:, j])
                for j, (name, kind) in enumerate(columns.items())
            ]
        )


def _columns(used: Used) -> "dict[str, pl.DataType]":
    import polars as pl

    types = {"integer": pl.Int64(), "float": pl.Float64()}
    return {n: types[kind] for n, kind in zip(used.schema.names, used.schema.kinds, strict=False)}


def _arguments(words: Sequence[str]) -> Any:
    arguments = Arguments("sample", HELP)
    arguments.add_argument("-n", type=_count, required=True, help="how many rows")
    arguments.add_argument("--seed", type=_seed, default=0, help="of what is drawn (0)")
    arguments.add_argument(
        "--given",
        metavar="c=1.5,d=2",
        type=_given,
        help="the contexts, all of them, of a flow that was trained with data.context; a name with "
        "a comma is quoted: '\"a,b=1\",c=2'",
    )
    arguments.add_argument(
        "--temperature",
        metavar="T",
        type=_temperature,
        default=1.0,
        help="times the spread of the base density: below 1 rows are more typical (1)",
    )
    return arguments.of(words)


def _number(
    word: str, kind: type[Number], allowed: Callable[[Number], bool], expected: str
) -> Number:
    try:
        value = kind(word)
    except ValueError:
        value = None
    if value is None or not allowed(value):
        raise ArgumentTypeError(f"{word!r}; expected {expected}")
    return value


def _count(word: str) -> int:
    return _number(word, int, lambda n: 1 <= n < 2**63, "a whole number of at least 1")


def _seed(word: str) -> int:
    return _number(word, int, lambda seed: 0 <= seed < 2**63, "a whole number of at least 0")


def _temperature(word: str) -> float:
    return _number(word, float, lambda t: 0 < t < math.inf, "a number above 0")


def _given(text: str) -> dict[str, float]:
    """Numbers by name, as in c=1.5,d=2."""
    found: dict[str, float] = {}
    for word in next(csv.reader([text], skipinitialspace=True), []):
        name, _, number = word.rpartition("=")
        name = name.strip()
        if not name or name in found:
            what = f"{name} is there twice" if name else f"{word!r} is not name=number"
            raise ArgumentTypeError(f"{what}; expected each as in c=1.5,d=2")
        found[name] = _number(number.strip(), float, math.isfinite, f"a number for {name}")
    return found


def _context(given: dict[str, float] | None, used: Used) -> Any:
    """The context (C,) that was given, or None for a flow without; ConfigError for another."""
    names = used.schema.context_names
    if not names:
        if given is not None:
            raise ConfigError(f"--given: the flow of {used.run} has no contexts; leave it out")
        return None
    given = given or {}
    if others := [name for name in given if name not in names]:
        from flowlab.data.names import near_names

        raise ConfigError(f"--given: no context {others[0]}; {near_names(others[0], names)}")
    if missing := [name for name in names if name not in given]:
        raise ConfigError(
            f"--given: the flow of {used.run} needs {', '.join(missing)}; expected a number for "
            f"each, as in --given {','.join(f'{name}=0' for name in names[:3])}"
        )
    import numpy as np

    return np.array([given[name] for name in names])
