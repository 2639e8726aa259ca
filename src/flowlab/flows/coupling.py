"""Coupling layers: one half of the coordinates decides how the other half moves."""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlab.flows.nets import MLP
from flowlab.flows.transform import Transform, vector_size
from flowlab.flows.univariate import Affine, RationalQuadratic, Univariate


class Coupling(Transform):
    """One coupling layer: the coordinates that it keeps decide how it moves the others.

        moved' = map(moved; net(kept, context)),   log|det J| = sum of log(d moved' / d moved)

    It keeps coordinates 0, 2, 4, ... or, with kept=1, coordinates 1, 3, 5, ..., of images (N, H, W,
    C) their channels. The net can be any function, for nothing inverts it. A layer that keeps no
    coordinate, as with a single one, moves all of them given the context alone, and by the same map
    everywhere if there is none.

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
        return join(halves), log_slopes.flatten(1).sum(1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves = split(u)
        parameters = self.net(halves[self.kept], context)
        moved = 1 - self.kept
        halves[moved], log_slopes = self.univariate.inverse(halves[moved], parameters)
        return join(halves), log_slopes.flatten(1).sum(1)


def split(x: Tensor) -> list[Tensor]:
    """Views of coordinates 0, 2, 4, ... and 1, 3, 5, ..., which are those of the last axis."""
    return [x[..., 0::2], x[..., 1::2]]


def join(halves: list[Tensor]) -> Tensor:
    """What `split` took apart, in a new tensor."""
    even, odd = halves
    if even.shape[-1] > odd.shape[-1]:
        return torch.stack((even, F.pad(odd, (0, 1))), dim=-1).flatten(-2)[..., :-1]
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
    return _layers(shape, context, num_flows, num_hidden, Affine(bound))


def spline(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 4,
    num_hidden: int = 64,
    num_bins: int = 8,
    bound: float = 5.0,
) -> list[Transform]:
    """A neural spline flow: coupling layers that bend coordinates by rational quadratic splines.

    The layers keep the even and the odd coordinates in turn; they start as the identity, which
    they always are outside [-bound, bound]. A single layer never moves half of the coordinates,
    which a warning says. Raises ValueError for points that are not vectors.
    """
    return _layers(shape, context, num_flows, num_hidden, RationalQuadratic(num_bins, bound))


def _layers(
    shape: tuple[int, ...],
    context: int,
    num_flows: int,
    num_hidden: int,
    univariate: Univariate,
) -> list[Transform]:
    """Coupling layers with MLPs that keep the even and the odd coordinates in turn."""
    dim = vector_size(shape)
    if num_flows == 1 < dim:
        warnings.warn(
            "with num_flows=1 half of the coordinates never move; use num_flows >= 2", stacklevel=4
        )
    sizes = ((dim + 1) // 2, dim // 2)
    layers: list[Transform] = []
    for i in range(num_flows):
        kept = i % 2 if dim > 1 else 1
        num_out = univariate.num_parameters * sizes[1 - kept]
        net = MLP(sizes[kept] + context, num_hidden, num_out)
        layers.append(Coupling(net, univariate, kept))
    return layers
