"""What the pictures of a sweep have in common: scales, ticks, and the user's words on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from flowlab.plots.style import Array

if TYPE_CHECKING:
    from flowlab.runs.results import Run


LARGEST = 100.0  # inches of a side, however many cells there are
MOST_DENSITY = 80.0  # a log-density whose exponential is still a number


def empty_figure(width: float, height: float) -> Figure:
    """A figure whose parts make room for each other."""
    figure = Figure(figsize=(min(width, LARGEST), min(height, LARGEST)), dpi=100)
    figure.set_layout_engine("constrained")
    return figure


def truth_of(run: Run) -> Any:
    """The known density in the plane that a run's points are from, if they are."""
    from flowlab.targets import TARGETS, build_target

    name, dim = run.value("data.target"), run.value("data.dim")
    if name not in TARGETS or dim not in ("-", "2"):
        return None
    try:
        target = build_target(name, None if dim == "-" else 2)
    except ValueError:  # it has a dimension of its own
        return None
    return target if target.dim == 2 else None


def extent_of(truth: Any, flow: Any) -> float:
    """Half the side of a square to show: a known target's, or what a flow's samples are within."""
    import torch

    known: float | None = getattr(truth, "extent", None)
    if known is not None:
        return known
    samples = flow.sample(2000, generator=torch.Generator().manual_seed(0))
    side = 1.1 * float(samples.abs().max())
    return side if 0 < side < 1e6 else 10.0


def on_grid(log_prob: Callable[[Any], Any], points: Any) -> Array:
    """A density at the points of a square grid, (n * n, 2), as rows from below: (n, n)."""
    import torch

    with torch.no_grad():
        values = log_prob(points).clamp(max=MOST_DENSITY).exp().nan_to_num()
    side = math.isqrt(len(points))
    density: Array = values.reshape(side, side).T.cpu().numpy()
    return density


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
    return number if abs(number) < 1e30 else None
