"""How far a model is from a density that is known: in nats, with the error that is left."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from flowlab.targets.target import Conditional, Target

CELLS = (20, 30, 40, 60, 80)  # of a grid to a unit of length; on to the next while two disagree
TOLERANCE = 1e-4  # of two grids
NEGLIGIBLE = math.log(1e-12)  # below the density's highest: a normal's beyond 7.4 sigma
CONTEXTS = (12, 24)
BATCH, MOST, ENOUGH = 100_000, 1_000_000, 1e-3  # fresh points at once, in all, and their error

LogProb = Callable[[Tensor], Tensor]


class Divergence(NamedTuple):
    """KL(p || q) in nats and the error that is left in it, () each."""

    kl: Tensor
    error: Tensor


def kl_divergence(p: Target, log_q: LogProb, draw: Callable[[int], Tensor]) -> Divergence:
    """KL(p || q) = E_p[log p(x) - log q(x)], by quadrature up to the plane, by sampling beyond.

    So it is too where a target of the user's own does not say its extent.

    log_q takes points (N, D) to log-densities in nats, (N,); draw(n) gives n fresh points of p.
    """
    on_a_grid = p.dim <= 2 and (hasattr(p, "extent") or hasattr(p, "quadrature"))
    return by_quadrature(p, log_q) if on_a_grid else by_sampling(p, log_q, draw)


def conditional_kl_divergence(
    p: Conditional, log_q: Callable[[Tensor, Tensor], Tensor]
) -> Divergence:
    """The mean over contexts of KL(p(x | c) || q(x | c)), up to the plane.

    log_q takes points (N, D) and a context (C,) to log-densities, (N,). The error is the largest of
    any context's, and the difference between two sets of contexts, the second with twice as many.
    """
    means = []
    for n in CONTEXTS:
        found = [by_quadrature(p.given(c), partial(_given, log_q, c)) for c in p.contexts(n)]
        means.append(torch.stack([kl for kl, _ in found]).mean())
    error = torch.stack([error for _, error in found]).max() + (means[1] - means[0]).abs()
    return Divergence(means[1], error)


def _given(log_q: Callable[[Tensor, Tensor], Tensor], context: Tensor, x: Tensor) -> Tensor:
    return log_q(x, context)


def by_quadrature(p: Target, log_q: LogProb) -> Divergence:
    """The integral of p (log p - log q) by the midpoint rule, on two grids that agree.

    The grids span the target's extent, or are its own `quadrature` if it has one. Cells have edges
    at all multiples of 0.1: there a density that jumps has to do so. The error is the difference of
    the last two grids, and the mass of p that the last one misses.
    """
    grids = (_on_a_grid(p, log_q, cells) for cells in CELLS)
    for first, second in itertools.pairwise(grids):
        error = (second.kl - first.kl).abs() + second.error
        if error < TOLERANCE:
            break
    return Divergence(second.kl, error)


def _on_a_grid(p: Target, log_q: LogProb, cells: int) -> Divergence:
    own: Callable[[int], tuple[Tensor, Tensor]] | None = getattr(p, "quadrature", None)
    x, mass = own(cells) if own else _evenly(p, cells)
    return Divergence((mass * (p.log_prob(x) - log_q(x))).sum(), (1 - mass.sum()).abs())


def _evenly(p: Target, cells: int) -> tuple[Tensor, Tensor]:
    """The middles of the cells in which there is something of p, and the mass of each."""
    axis = torch.arange(round(2 * p.extent * cells), dtype=torch.float64)
    axis = (axis + 0.5) / cells - p.extent
    x = torch.cartesian_prod(*p.dim * [axis]).reshape(-1, p.dim)
    log_p = p.log_prob(x)
    seen = log_p > log_p.max() + NEGLIGIBLE
    return x[seen], log_p[seen].exp() / cells**p.dim


def by_sampling(p: Target, log_q: LogProb, draw: Callable[[int], Tensor]) -> Divergence:
    """The mean of log p - log q over fresh points, with its standard error.

    There are as many as it takes for the error to be below `ENOUGH`, or `MOST`.
    """
    total = square = torch.tensor(0.0)
    for n in range(BATCH, MOST + 1, BATCH):
        x = draw(BATCH)
        ratio = p.log_prob(x.double()) - log_q(x)
        total, square = total + ratio.sum(), square + ratio.square().sum()
        mean = total / n
        error = ((square / n - mean.square()).clamp(min=0) / (n - 1)).sqrt()
        if error < ENOUGH:
            break
    return Divergence(mean, error)
