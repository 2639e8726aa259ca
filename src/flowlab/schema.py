"""What the columns are that a flow was trained on, as its file carries them beside the weights."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

KINDS = ("integer", "float")
LARGEST = 2**53  # float64 holds whole numbers up to it
NUM_QUANTILES = 1001
PIECE = 16_384  # rows that are read, drawn, scored or written at once
MAX_NAME = 1000  # characters
MOST = 1e300  # of any number, so that sums and differences are numbers too


@dataclass(frozen=True)
class Schema:
    """The columns of D coordinates and C contexts, and how likely the training rows were.

    `kinds` has "integer" or "float" for each column, contexts last. `noise` is the width over which
    `data.noise` has spread each coordinate, 0 for none; of whole numbers that it has spread, `grid`
    has the least and the step from each to the next. `quantiles` are `NUM_QUANTILES` of the
    log-densities of the training rows, evenly from the least to the largest, in nats; () if there
    were no such rows.
    """

    names: tuple[str, ...]
    context_names: tuple[str, ...]
    kinds: tuple[str, ...]
    noise: tuple[float, ...]
    grid: tuple[tuple[float, float] | None, ...]
    quantiles: tuple[float, ...] = ()

    @classmethod
    def plain(cls, dim: int, context: int) -> "Schema":
        """That of a flow of which nothing is known: columns x1, x2, ... and contexts c1, c2, ..."""
        names, contexts = numbered("x", dim), numbered("c", context)
        return cls(names, contexts, ("float",) * (dim + context), (0.0,) * dim, (None,) * dim)

    @property
    def used(self) -> tuple[str, ...]:
        """All columns, contexts last."""
        return self.names + self.context_names

    def middles(self, x: Numbers) -> Numbers:
        """Rows (N, D) as they are scored: what noise has spread in the middle of its step."""
        return x + 0.5 * np.array(self.noise)

    def with_whole(self, x: Numbers, support: Sequence[Any] | None) -> Numbers:
        """Sampled rows (N, D), with whole numbers where the training rows had them.

        What noise has spread goes back to the start of its step, others to the nearest number; both
        stay within the support.
        """
        x = x.copy()
        for j in range(len(self.names)):
            if self.kinds[j] != "integer":
                continue
            low, high = _limits(support[j] if support else None)
            start, step = self.grid[j] or (0.0, 1.0)
            if self.noise[j]:
                k = np.floor((x[:, j] - start) / step)
                first = np.ceil((low - start) / step)
                last = np.floor((high - self.noise[j] - start) / step)
            else:
                k = np.rint(x[:, j])
                first, last = np.floor(low) + 1, np.ceil(high) - 1
            x[:, j] = (start + step * k.clip(first, last)).clip(-LARGEST, LARGEST)
        return x

    def rank(self, log_prob: Numbers) -> Numbers:
        """The share of training rows that are less likely: (N,) -> (N,), in [0, 1]."""
        quantiles = np.array(self.quantiles)
        above = quantiles.searchsorted(log_prob).clip(1, len(quantiles) - 1)
        low, high = quantiles[above - 1], quantiles[above]
        share = (log_prob.clip(low, high) - low) / np.where(high > low, high - low, 1.0)
        share = np.where(log_prob > high, 1.0, share)
        return (above - 1 + share) / (len(quantiles) - 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def checked(cls, content: Any, dim: int, context: int) -> "Schema":
        """That of a table of a stranger's, for a flow of such dimensions; ValueError if it lies."""
        expected = {"names", "context_names", "kinds", "noise", "grid", "quantiles"}
        if not isinstance(content, dict) or content.keys() != expected:
            raise ValueError("its columns are not a table of the kind that flowlab writes")
        sizes = {"names": dim, "context_names": context, "kinds": dim + context, "noise": dim}
        for key, size in (sizes | {"grid": dim}).items():
            if not isinstance(content[key], list) or len(content[key]) != size:
                raise ValueError(f"{key} of its columns are not {size}, as its flow has")
        if not are_names(content["names"] + content["context_names"]):
            raise ValueError("names of its columns are empty, equal, too long, or no names")
        if not all(isinstance(kind, str) and kind in KINDS for kind in content["kinds"]):
            raise ValueError(f"kinds of its columns are not {' or '.join(KINDS)}")
        if not all(_is_number(width) and width >= 0 for width in content["noise"]):
            raise ValueError("noise of its columns is not of widths")
        for j, entry in enumerate(content["grid"]):
            stepped = content["kinds"][j] == "integer" and content["noise"][j]
            if not (_is_grid(entry) if stepped else entry is None):
                raise ValueError("grid of its columns is not of starts and steps")
        _check_quantiles(content["quantiles"])
        grid = [None if entry is None else tuple(entry) for entry in content["grid"]]
        return cls(**{key: tuple(value) for key, value in (content | {"grid": grid}).items()})


def numbered(letter: str, num: int) -> tuple[str, ...]:
    """Names for columns that have none.

    >>> numbered("x", 3)
    ('x1', 'x2', 'x3')
    """
    return tuple(f"{letter}{i}" for i in range(1, num + 1))


def are_names(names: Sequence[Any]) -> bool:
    """Whether these can name columns: each once, and with no signs that steer a terminal."""
    texts = all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names)
    return texts and len({*names}) == len(names) and not any(map(_steers, names))


def _steers(name: str) -> bool:
    """Whether a name has control characters, but for those that spreadsheets break a line with."""
    codes = [ord(sign) for sign in name if sign not in "\t\r\n"]
    return any(code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000 for code in codes)


def _limits(support: Any) -> tuple[float, float]:
    """Between which numbers a coordinate lies."""
    if support is None:
        return -math.inf, math.inf
    return (0.0, math.inf) if isinstance(support, str) else (support[0], support[1])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MOST


def _is_grid(entry: Any) -> bool:
    pair = isinstance(entry, list) and len(entry) == 2 and all(map(_is_number, entry))
    return pair and all(float(n).is_integer() and abs(n) <= LARGEST for n in entry) and entry[1] > 0


def _check_quantiles(values: Any) -> None:
    if not isinstance(values, list) or len(values) not in (0, NUM_QUANTILES):
        raise ValueError(f"quantiles of its training rows are not {NUM_QUANTILES}, or none")
    if not all(map(_is_number, values)) or values != sorted(values):
        raise ValueError("quantiles of its training rows are not numbers in order")
