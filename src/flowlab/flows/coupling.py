"""Coupling layers: one half of the coordinates decides how the other half moves."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlab.flows.nets import MLP
from flowlab.flows.transform import Transform, vector_size


class Univariate(Protocol):
    """An increasing map of each coordinate by itself, with parameters that a net gives.

    Both methods take values (N, K) and parameters (N, num_parameters * K) to values (N, K) and the
    logarithms of the slopes of what they did, (N, K).
    """

    num_parameters: int  # of each coordinate

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Affine:
    """y = x exp(s) + t,  s = bound * tanh(r / bound),  with the parameters (r, t).

    The soft bound keeps the map invertible in floating point far from the data.
    """

    bound: float = 1.0
    num_parameters = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._scale_and_shift(parameters)
        return torch.addcmul(t, x, s.exp()), s

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._scale_and_shift(parameters)
        return (y - t) * (-s).exp(), -s

    def _scale_and_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r, t = parameters.chunk(2, dim=-1)
        return r.tanh() if self.bound == 1 else self.bound * (r / self.bound).tanh(), t


class Coupling(Transform):
    """One coupling layer: the coordinates that it keeps decide how it moves the others.

        moved' = map(moved; net(kept, context)),   log|det J| = sum of log(d moved' / d moved)

    It keeps coordinates 0, 2, 4, ... or, with kept=1, coordinates 1, 3, 5, ... The net can be any
    function, for nothing inverts it. A layer that keeps no coordinate, as with a single one,
    moves all of them given the context alone, and by the same map everywhere if there is none.

    Reference: Dinh et al., "Density estimation using Real NVP", ICLR 2017, eqs. (4) to (8).
    """

    def __init__(self, net: Callable[..., Tensor], univariate: Univariate, kept: int):
        super().__init__()
        self.net = net
        self.univariate = univariate
        self.kept = kept

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves = split(x)
        parameters = self.net(halves[self.kept], context)
        moved = 1 - self.kept
        halves[moved], log_slopes = self.univariate.forward(halves[moved], parameters)
        return join(halves), log_slopes.sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves = split(u)
        parameters = self.net(halves[self.kept], context)
        moved = 1 - self.kept
        halves[moved], log_slopes = self.univariate.inverse(halves[moved], parameters)
        return join(halves), log_slopes.sum(-1)


def split(x: Tensor) -> list[Tensor]:
    """Views of coordinates 0, 2, 4, ... and of coordinates 1, 3, 5, ..."""
    return [x[:, 0::2], x[:, 1::2]]


def join(halves: list[Tensor]) -> Tensor:
    """What `split` took apart, in a new tensor."""
    even, odd = halves
    if even.shape[-1] > odd.shape[-1]:
        return torch.stack((even, F.pad(odd, (0, 1))), dim=-1).flatten(-2)[:, :-1]
    return torch.stack((even, odd), dim=-1).flatten(-2)


def coupling(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 4,
    num_hidden: int = 8,
    bound: float = 1.0,
) -> list[Transform]:
    """A RealNVP-style flow: `num_flows` affine coupling layers with MLPs of `num_hidden` units.

    The layers keep the even and the odd coordinates in turn; they start as the identity. `bound`
    limits each layer's log-scale softly to (-bound, bound). A single layer never moves half of the
    coordinates, which a warning says. With one coordinate each layer scales and shifts it given the
    context alone: a Gaussian for each context. Raises ValueError for points that are not vectors.
    """
    dim = vector_size(shape)
    if not 0 < bound < math.inf:
        raise ValueError(f"bound must be positive and finite, got {bound}")
    if num_flows == 1 < dim:
        warnings.warn(
            "with num_flows=1 half of the coordinates never move; use num_flows >= 2", stacklevel=3
        )
    univariate, sizes = Affine(bound), ((dim + 1) // 2, dim // 2)
    layers: list[Transform] = []
    for i in range(num_flows):
        kept = i % 2 if dim > 1 else 1
        num_out = univariate.num_parameters * sizes[1 - kept]
        net = MLP(sizes[kept] + context, num_hidden, num_out)
        layers.append(Coupling(net, univariate, kept))
    return layers
