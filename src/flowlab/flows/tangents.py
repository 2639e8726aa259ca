"""Networks of tanh units that say how their output moves with their input, without autograd.

A network here is its weights, (H, D), (H, H), ..., (D, H), and its biases, so that a family may
constrain them or let them depend on time. Its Jacobian at a point is a product of its weights with
the slopes of its units between, and what is made of it can be differentiated once more.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXACT = 16  # numbers to a point up to which a Jacobian is always taken whole


class Network(nn.Module):
    """The weights and biases of two hidden layers, of which a `context` shifts the first.

    They start as those of `torch.nn.Linear`, the last layer's times `last`.
    """

    def __init__(self, dim: int, num_hidden: int, context: int, last: float):
        super().__init__()
        sizes = (dim, num_hidden, num_hidden, dim)
        self.weights = nn.ParameterList(torch.empty(n, m) for m, n in pairwise(sizes))
        self.biases = nn.ParameterList(torch.empty(n) for n in sizes[1:])
        for weight, bias in zip(self.weights, self.biases, strict=True):
            limit = 1 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -limit, limit)
            nn.init.uniform_(bias, -limit, limit)
        with torch.no_grad():
            self.weights[-1] *= last
            self.biases[-1] *= last
        if context:
            limit = 1 / math.sqrt(context)
            self.shift = nn.Parameter(torch.empty(num_hidden, context).uniform_(-limit, limit))

    def shifted(self, context: Tensor | None) -> list[Tensor]:
        """The biases given a context (N, C), the first then (N, H)."""
        first, *others = self.biases
        return [first if context is None else F.linear(context, self.shift, first), *others]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b, with one bias (H,), or one for each point, (N, H)."""
    return F.linear(x, weight, bias) if bias.dim() == 1 else F.linear(x, weight) + bias


def run(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The network's value at points (N, D), and the slopes of its units, (N, H) a layer."""
    slopes = []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.tanh(affine(x, weight, bias))
        slopes.append(1 - x.square())
    return F.linear(x, weights[-1], biases[-1]), slopes


def pushed(v: Tensor, weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """The Jacobian at each point times a vector at each: (N, D) -> (N, D)."""
    for weight, slope in zip(weights[:-1], slopes, strict=True):
        v = (v @ weight.mT) * slope
    return v @ weights[-1].mT


def jacobian(weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """The Jacobian at each point, transposed: (N, D, D), a row for each number of the input."""
    first, *others = weights
    rows = first.mT * slopes[0].unsqueeze(1)
    for weight, slope in zip(others[:-1], slopes[1:], strict=True):
        rows = _mapped(rows, weight) * slope.unsqueeze(1)
    return _mapped(rows, others[-1])


def _mapped(rows: Tensor, weight: Tensor) -> Tensor:
    """Each row times a weight, as one matrix: vmap would give each point a weight of its own."""
    n, d, _ = rows.shape
    return F.linear(rows.flatten(0, 1), weight).reshape(n, d, len(weight))
