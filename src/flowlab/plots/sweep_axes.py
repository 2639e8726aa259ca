"""What the pictures of a sweep have in common: scales, ticks, and the user's words on them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter


def empty_figure(width: float, height: float) -> Figure:
    """A figure whose parts make room for each other."""
    figure = Figure(figsize=(width, height), dpi=100)
    figure.set_layout_engine("constrained")
    return figure


def extent_of(target: str, flow: Any) -> float:
    """Half the side of a square to show: a known target's, or what a flow's samples are within."""
    import torch

    from flowlab.targets import TARGETS

    known: float | None = getattr(TARGETS[target](), "extent", None) if target in TARGETS else None
    if known is not None:
        return known
    samples = flow.sample(2000, generator=torch.Generator().manual_seed(0))
    return 1.1 * float(samples.abs().max())


def scale(axis: Axis, values: Sequence[float]) -> None:
    """Make an axis logarithmic, with readable ticks, where values differ by much."""
    if 0 < 5 * min(values) < max(values):
        many = max(values) > 100 * min(values)
        set_scale = axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1,) if many else (1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def positions(ordered: Sequence[str]) -> tuple[list[float], bool]:
    """Where values are on an axis, and whether they are numbers: words are side by side."""
    numbers = [_number(value) for value in ordered]
    if all(number is not None for number in numbers):
        return [float(value) for value in ordered], True
    return list(map(float, range(len(ordered)))), False


def ordered(values: Iterable[str]) -> list[str]:
    """Each value once: numbers by their size, and words by the alphabet."""
    return sorted(set(values), key=lambda v: (_number(v) is None, _number(v) or 0.0, v))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
