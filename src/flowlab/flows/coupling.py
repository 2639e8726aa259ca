"""Affine coupling flows (RealNVP)."""

import math
import warnings
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.flows.flow import Flow, Transform


class StackedMLP(nn.Module):
    """`num` MLPs of one shape, with two hidden layers of ReLU units; the last layer starts at zero.

    All of them share each parameter tensor, (num, out, in) and (num, out): what autograd and the
    optimizer spend on a tensor they spend once, which makes steps of small flows a seventh shorter.
    The hidden layers start as `torch.nn.Linear` does.

    Shapes: each MLP takes (..., num_in) to (..., num_out).
    """

    def __init__(self, num: int, num_in: int, num_hidden: int, num_out: int):
        super().__init__()
        sizes = (num_in, num_hidden, num_hidden, num_out)
        self.weights = nn.ParameterList(torch.empty(num, n, m) for m, n in pairwise(sizes))
        self.biases = nn.ParameterList(torch.empty(num, n) for n in sizes[1:])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            limit = 1 / math.sqrt(weight.shape[-1])
            nn.init.uniform_(weight, -limit, limit)
            nn.init.uniform_(bias, -limit, limit)
        nn.init.zeros_(self.weights[-1])
        nn.init.zeros_(self.biases[-1])

    def unstack(self) -> Iterator[tuple[Tensor, ...]]:
        """The parameters of each MLP in turn, as `mlp` takes them."""
        yield from zip(*(p.unbind() for p in (*self.weights, *self.biases)), strict=True)


def mlp(
    x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, b1: Tensor, b2: Tensor, b3: Tensor
) -> Tensor:
    """An MLP with two hidden layers of ReLU units."""
    hidden = F.linear(x, w1, b1).relu_()
    hidden = F.linear(hidden, w2, b2).relu_()
    return F.linear(hidden, w3, b3)


class AffineCoupling(Transform):
    """A chain of affine coupling layers; masks [1, 0, 1, 0, ...] and its negation in turn.

    In each layer the kept half of the coordinates decides how the other half moves:

        moved' = moved * exp(s) + t,   s = bound * tanh(r / bound),   (r, t) = MLP(kept)

    and log|det J| is the sum of s. The soft bound keeps each layer invertible in floating point
    far from the data; the MLPs' last layers of zeros make the chain start as the identity.

    The masks cost nothing: a point is split once into views of its even and odd coordinates, the
    layers take turns on the halves, which are woven together once, and all s are summed once.

    Reference: Dinh et al., "Density estimation using Real NVP", ICLR 2017, eqs. (4) to (8).
    """

    def __init__(self, dim: int, num_flows: int, num_hidden: int, bound: float):
        super().__init__()
        self.num_flows = num_flows
        self.bound = bound
        even, odd = (dim + 1) // 2, dim // 2
        shapes = [(even, 2 * odd), (odd, 2 * even)][: 1 if even == odd else num_flows]
        self.nets = nn.ModuleList(
            StackedMLP(len(range(i, num_flows, len(shapes))), num_in, num_hidden, num_out)
            for i, (num_in, num_out) in enumerate(shapes)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first_layers(self.num_flows, x)

    def first_layers(self, num: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the first `num` layers alone make of x, for finding the one that went wrong."""
        halves = [x[..., 0::2], x[..., 1::2]]
        log_scales = []
        for i, net in enumerate(islice(self._layers(), num)):
            kept, moved = i % 2, 1 - i % 2
            r, t = mlp(halves[kept], *net).chunk(2, dim=-1)
            s = self._bounded(r)
            halves[moved] = torch.addcmul(t, halves[moved], s.exp())
            log_scales.append(s)
        return _weave(*halves), torch.cat(log_scales, dim=-1).sum(-1)

    def inverse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        halves = [u[..., 0::2], u[..., 1::2]]
        log_scales = []
        for i, net in reversed(list(enumerate(self._layers()))):
            kept, moved = i % 2, 1 - i % 2
            r, t = mlp(halves[kept], *net).chunk(2, dim=-1)
            s = -self._bounded(r)
            halves[moved] = (halves[moved] - t) * s.exp()
            log_scales.append(s)
        return _weave(*halves), torch.cat(log_scales, dim=-1).sum(-1)

    def _bounded(self, r: Tensor) -> Tensor:
        return r.tanh() if self.bound == 1 else self.bound * (r / self.bound).tanh()

    def _layers(self) -> Iterator[tuple[Tensor, ...]]:
        stacks = [cast(StackedMLP, net).unstack() for net in self.nets]
        for i in range(self.num_flows):
            yield next(stacks[i % len(stacks)])


def _weave(even: Tensor, odd: Tensor) -> Tensor:
    if even.shape[-1] > odd.shape[-1]:
        return torch.stack((even, F.pad(odd, (0, 1))), dim=-1).flatten(-2)[..., :-1]
    return torch.stack((even, odd), dim=-1).flatten(-2)


def coupling(dim: int, *, num_flows: int = 4, num_hidden: int = 8, bound: float = 1.0) -> Flow:
    """A RealNVP-style flow: `num_flows` affine coupling layers with MLPs of `num_hidden` units.

    It starts as the identity. `bound` limits each layer's log-scale softly to (-bound, bound).
    A single layer never moves half of the coordinates, which a warning says. Raises ValueError
    for dim < 2, where no coordinate has another to depend on.
    """
    if dim < 2:
        raise ValueError(
            f"a coupling flow needs dim >= 2 (one half moves given the other), got {dim}"
        )
    if num_flows < 1 or num_hidden < 1:
        raise ValueError(
            f"num_flows and num_hidden must be at least 1, got {num_flows} and {num_hidden}"
        )
    if not 0 < bound < math.inf:
        raise ValueError(f"bound must be positive and finite, got {bound}")
    if num_flows == 1:
        warnings.warn(
            "with num_flows=1 half of the coordinates never move; use num_flows >= 2", stacklevel=2
        )
    return Flow([AffineCoupling(dim, num_flows, num_hidden, bound)], dim)
