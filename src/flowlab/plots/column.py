"""How a column of numbers is shown in every picture: its name, limits, scale and ticks."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flowlab.plots.style import Array

MINUS = "\N{MINUS SIGN}"
DECADES = 2.0  # that positive values span where they are shown by their logarithms


class Column(NamedTuple):
    """Limits of a coordinate, on a logarithmic scale or not."""

    name: str
    low: float
    high: float
    log: bool

    def edges(self, bins: int) -> Array:
        """Of so many bins between the limits, equal on the scale: (bins + 1,)."""
        space = np.geomspace if self.log else np.linspace
        edges: Array = space(self.low, self.high, bins + 1)
        return edges

    def ticks(self, room: int) -> tuple[list[float], list[str]]:
        """At most three and away from the limits, with labels of up to `room` characters in all."""
        for most in (3, 2, 1):
            values = _powers(self, most) if self.log else _round(self, most)
            labels = _labels(values, self.log)
            if values and sum(map(len, labels)) + 2 * (len(labels) - 1) <= room:
                break
        return values, labels

    def scale(self, ax: Axes, which: Literal["x", "y"], room: int) -> None:
        """Give an axis of a panel the limits, scale and ticks."""
        axis = {"x": ax.xaxis, "y": ax.yaxis}[which]
        ax.set(**{f"{which}scale": "log" if self.log else "linear"})
        ax.set(**{f"{which}lim": (self.low, self.high)})
        axis.set_ticks([], minor=True)
        axis.set_ticks(*self.ticks(room))


def column(name: str, values: Array, positive: bool) -> Column:
    """The column for values (N,) of it; if all can only be positive, maybe by their logarithms.

    The limits hold the middle 96 % of the values and a third as much beside them on both sides, but
    not more than all: so tails do not press the others into a line.
    """
    log = positive and np.ptp(np.quantile(np.log10(values), (0.02, 0.98))) > DECADES
    values = np.log10(values) if log else values
    low, high = values.min(), values.max()
    if high == low:
        low, high = low - max(1, 0.05 * abs(low)), high + max(1, 0.05 * abs(high))
    first, last = np.quantile(values, (0.02, 0.98))
    if last > first:
        low, high = max(low, first - (last - first) / 3), min(high, last + (last - first) / 3)
    margin = 0.04 * (high - low)
    low, high = float(low - margin), float(high + margin)
    return Column(name, 10**low, 10**high, True) if log else Column(name, low, high, False)


def _round(column: Column, most: int) -> list[float]:
    """Round numbers between the limits."""
    low, high = column.low, column.high
    inside = 0.08 * (high - low)
    for bins in range(most, 12):
        locator = MaxNLocator(bins, steps=[1, 2, 5, 10])
        values: Array = np.array(locator.tick_values(low, high))
        values = values[(values >= low + inside) & (values <= high - inside)]
        if len(values) >= min(most, 2):
            break
    return list(map(float, _thinned(values, most)))


def _powers(column: Column, most: int) -> list[float]:
    """Powers of ten between the limits."""
    exponents = np.arange(np.ceil(np.log10(column.low)), np.floor(np.log10(column.high)) + 1)
    return [10.0**e for e in _thinned(exponents, most)]


def _thinned(values: Array, most: int) -> Array:
    step = -(-len(values) // most)
    start = (len(values) - 1) % step // 2  # in the middle
    return values[start::step]


def _labels(values: Sequence[float], log: bool) -> list[str]:
    """With as many digits as tell neighbours apart.

    >>> _labels([2.5, 5], False), _labels([0, 1.1e7], False), _labels([3e7, 3e7 + 0.5], False)
    (['2.5', '5'], ['0', '1.1e7'], ['30000000', '30000000.5'])
    """
    space = min(np.diff(values)) if len(values) > 1 else max(map(abs, values), default=0)
    digits = [1 - math.floor(math.log10(v if log else space or 1)) for v in values]
    values = list(map(round, values, digits))
    fixed = [np.format_float_positional(value, trim="-") for value in values]
    short = [np.format_float_scientific(value, trim="-", exp_digits=1) for value in values]
    short = [label.replace("e+", "e").replace("0e0", "0") for label in short]
    most = max(6, max(map(len, short), default=0))
    chosen = fixed if all(len(label) <= most for label in fixed) else short
    return [label.replace("-", MINUS) for label in chosen]
