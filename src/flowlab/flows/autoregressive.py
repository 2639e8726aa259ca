"""Autoregressive layers: the coordinates before it decide how each coordinate moves."""

from typing import Any

from torch import Tensor

from flowlab.flows.linear import LU, ActNorm
from flowlab.flows.made import MADE, MaskedNet
from flowlab.flows.transform import Inverse, Transform, vector_size
from flowlab.flows.univariate import Affine, DeepSigmoid, RationalQuadratic, Univariate

MIXINGS = ("flip", "lu")  # what is between layers


class Autoregressive(Transform):
    """One autoregressive layer: a map of each coordinate, given those before it.

        y_i = map(x_i; net(x_1, ..., x_i-1, context)),   log|det J| = sum_i log(dy_i / dx_i)

    `forward` takes one pass of the net; `inverse` finds the coordinates one by one, exactly, for
    what they depend on is known by then. Both have gradients.

    Reference: Papamakarios et al., "Masked Autoregressive Flow for Density Estimation", NeurIPS
    2017, eqs. (2) to (5); Kingma et al., "Improved Variational Inference with Inverse
    Autoregressive Flow", NeurIPS 2016, is the same turned round.
    """

    generates = False

    def __init__(self, net: MADE | MaskedNet, univariate: Univariate):
        super().__init__()
        self.net = net
        self.univariate = univariate

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slopes = self.univariate.forward(x, self.net(x, context))
        return y, log_slopes.sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_slopes = self.net.in_turn(u, context, self.univariate.inverse)
        return x, log_slopes.sum(-1)


def maf(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 8,
    num_hidden: int = 64,
    num_hidden_layers: int = 2,
    bound: float = 3.0,
    mixing: str = "flip",
) -> list[Transform]:
    """A masked autoregressive flow: `num_flows` layers that scale and shift each coordinate.

    The layers take the coordinates from the first to the last and from the last to the first in
    turn; with `mixing="lu"` always from the first, and linear layers between them mix the
    coordinates. They start as the identity, linear layers as reversals. `bound` limits each layer's
    log-scale softly to (-bound, bound). Raises ValueError for points that are not vectors.
    """
    sizes = (num_flows, num_hidden, num_hidden_layers)
    return _layers(shape, context, Affine(bound), *sizes, mixing)


def iaf(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 8,
    num_hidden: int = 64,
    num_hidden_layers: int = 2,
    bound: float = 3.0,
    mixing: str = "flip",
) -> list[Transform]:
    """An inverse autoregressive flow, `maf` turned round: one pass for a sample, D for a density.

    Raises ValueError for points that are not vectors.
    """
    sizes = {"num_flows": num_flows, "num_hidden": num_hidden}
    options: dict[str, Any] = {"num_hidden_layers": num_hidden_layers, "bound": bound}
    layers = maf(shape, context, **sizes, **options, mixing=mixing)
    return [Inverse(layer) for layer in reversed(layers)]


def spline_ar(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 3,
    num_hidden: int = 64,
    num_hidden_layers: int = 2,
    num_bins: int = 8,
    bound: float = 5.0,
    mixing: str = "flip",
) -> list[Transform]:
    """An autoregressive flow whose layers bend each coordinate by a rational quadratic spline.

    They start as the identity, which they always are outside [-bound, bound]. Raises ValueError
    for points that are not vectors.
    """
    spline = RationalQuadratic(num_bins, bound)
    return _layers(shape, context, spline, num_flows, num_hidden, num_hidden_layers, mixing)


def naf(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 2,
    num_hidden: int = 64,
    num_hidden_layers: int = 2,
    num_sigmoids: int = 16,
    mixing: str = "flip",
) -> list[Transform]:
    """A neural autoregressive flow: layers that bend each coordinate by a monotone network.

    Sampling takes a solver for each coordinate. Raises ValueError for points that are not vectors.
    """
    univariate = DeepSigmoid(num_sigmoids)
    sizes = (num_flows, num_hidden, num_hidden_layers)
    return _layers(shape, context, univariate, *sizes, mixing)


def _layers(
    shape: tuple[int, ...],
    context: int,
    univariate: Univariate,
    num_flows: int,
    num_hidden: int,
    num_hidden_layers: int,
    mixing: str,
) -> list[Transform]:
    """Autoregressive layers that count the coordinates from either end in turn.

    Or, with `mixing="lu"`, from the first, with linear layers between them.
    """
    if mixing not in MIXINGS:
        raise ValueError(f"mixing must be {' or '.join(MIXINGS)}, got {mixing!r}")
    dim, layers = vector_size(shape), list[Transform]()
    for i in range(num_flows):
        if mixing == "lu" and i > 0:
            layers += [ActNorm(dim), LU(dim)]
        net = MADE(
            dim,
            num_hidden,
            univariate.num_parameters,
            context=context,
            num_hidden_layers=num_hidden_layers,
            reverse=mixing == "flip" and i % 2 == 1,
        )
        layers.append(Autoregressive(net, univariate))
    return layers
