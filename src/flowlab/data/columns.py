"""Which columns of a table are what: coordinates, contexts, their supports and their noise."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowlab.data.data import Support
from flowlab.data.names import listed, near_names
from flowlab.data.reading import Table
from flowlab.errors import ConfigError, DataError


class Columns(NamedTuple):
    """The columns of a table that are used."""

    names: tuple[str, ...]
    context: tuple[str, ...]
    support: tuple[Support, ...]  # of each coordinate
    noise: tuple[float, ...]  # its width for each coordinate, 0 for none

    @property
    def used(self) -> tuple[str, ...]:
        return self.names + self.context

    @property
    def widths(self) -> Tensor | None:
        """The widths of the noise, (D,), if there is any."""
        return torch.tensor(self.noise, dtype=torch.float64) if any(self.noise) else None

    def limits(self, name: str) -> tuple[float, float]:
        """Between which numbers a column lies; a context may lie anywhere."""
        support = dict(zip(self.names, self.support, strict=True)).get(name)
        if support is None:
            return -math.inf, math.inf
        return (0.0, math.inf) if isinstance(support, str) else support

    def check_in(self, table: Table) -> None:
        """Check that another table has these columns. Raises DataError."""
        if missing := [name for name in self.used if name not in table.names]:
            raise DataError(
                f"{table.label}: no column {', '.join(missing)}, which data.path has; "
                f"columns: {listed(table.names)}"
            )


def choose(
    table: Table,
    columns: Sequence[Any] | None,
    drop: Sequence[Any] | None,
    context: Sequence[Any] | None,
    support: Mapping[Any, Any] | None,
    noise: Mapping[Any, float] | None,
) -> Columns:
    """Find the columns that are asked for.

    Raises DataError for one that is not there, and ConfigError for one that is asked for as two
    different things.
    """
    asked = {
        key: [str(name) for name in value or ()]
        for key, value in (
            *(("columns", columns), ("drop", drop), ("context", context)),
            *(("support", support), ("noise", noise)),
        )
    }
    for key, names in asked.items():
        _check_there(table, key, names)
    left_out = {*asked["drop"], *asked["context"]}
    if both := [name for name in asked["columns"] if name in left_out]:
        key = "drop" if both[0] in asked["drop"] else "context"
        raise ConfigError(f"data.{key}=[{both[0]}]: also in data.columns; expected in one of them")
    if both := [name for name in asked["context"] if name in asked["drop"]]:
        raise ConfigError(f"data.context=[{both[0]}]: also in data.drop; expected in one of them")
    names = asked["columns"] or [name for name in table.names if name not in left_out]
    if not names:
        raise ConfigError(f"{table.label}: no column is left; lower data.drop or data.context")
    for key in ("support", "noise"):
        if others := [name for name in asked[key] if name not in names]:
            raise ConfigError(
                f"data.{key}={{{others[0]}: ...}}: not a coordinate of the density; "
                f"expected one of {listed(names)}"
            )
    supports = {str(name): _support(value) for name, value in (support or {}).items()}
    widths = {str(name): float(value) for name, value in (noise or {}).items()}
    return Columns(
        tuple(names),
        tuple(asked["context"]),
        tuple(supports.get(name) for name in names),
        tuple(widths.get(name, 0.0) for name in names),
    )


def _support(value: Any) -> Support:
    if value is None or isinstance(value, str):
        return value
    low, high = value
    return float(low), float(high)


def _check_there(table: Table, key: str, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.names:
            hint = near_names(name, table.names)
            raise DataError(f"data.{key}: {table.path} has no column {name}; {hint}")
        if names.count(name) > 1:
            raise ConfigError(f"data.{key}: {name} is there twice; expected once")
