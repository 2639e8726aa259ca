"""Solvers for transforms without a formula for one of their directions."""

from collections.abc import Callable

import torch
from torch import Tensor

EVALUATIONS = {torch.float32: 24, torch.float64: 32}


def find_root(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where f, increasing in each element by itself, crosses zero between low and high.

    Takes a fixed number of evaluations, `EVALUATIONS` of the precision, and decides by
    `torch.where` alone, so that it works under vmap and torch.compile. Each evaluation narrows the
    bracket: by inverse quadratic interpolation where that is safe, by halves where not. With a
    slope between 1e-3 and 1e3 and a bracket up to some hundred wide the result is exact to
    rounding: f is as near to zero there as the numbers next to it allow. A root that rounding has
    moved just out of the bracket gives the end that is nearest.

    Shapes: f, low, high and the result are all of one shape.

    Reference: Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a
    nonlinear function without using derivatives", Advances in Engineering Software 28, 1997.
    """
    a, b = low, high  # the root is between a, the newest point, and b
    f_a, f_b = f(a), f(b)
    best, f_best = _nearer(a, f_a, b, f_b)
    t = torch.full_like(a, 0.5)  # where to look next, on the way from a to b
    resolution = torch.finfo(a.dtype).eps
    for _ in range(EVALUATIONS[a.dtype] - 2):
        x = a + t * (b - a)
        f_x = f(x)
        same = (f_x > 0) == (f_a > 0)
        c, f_c = torch.where(same, a, b), torch.where(same, f_a, f_b)  # the point before
        b, f_b = torch.where(same, b, a), torch.where(same, f_b, f_a)
        a, f_a = x, f_x
        best, f_best = _nearer(best, f_best, a, f_a)
        place, height = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
        safe = (height.square() < place) & ((1 - height).square() < 1 - place)
        t = f_a / (f_b - f_a) * f_c / (f_b - f_c)
        t = t + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        least = (resolution * best.abs() / (b - a).abs()).clamp(max=0.5)
        t = torch.where(safe, torch.clamp(t, least, 1 - least), 0.5)
    return best


def _nearer(x: Tensor, f_x: Tensor, y: Tensor, f_y: Tensor) -> tuple[Tensor, Tensor]:
    """Of two points the one where f is nearer to zero, and f there."""
    better = f_y.abs() < f_x.abs()
    return torch.where(better, y, x), torch.where(better, f_y, f_x)
