"""The same affine coupling flow in flowlab, zuko, normflows and nflows: pip install -e ".[bench]"

Each is put together from its library's own parts in the way of its documentation: `num_flows`
layers whose MLPs have two hidden layers of `num_hidden` ReLU units, alternating masks (normflows:
halves that swap, which is the same up to the order of the coordinates), and the same number of
parameters, which is checked.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowlab.flows import build_flow

warnings.filterwarnings("ignore")  # the peers' own, about the torch of today

import nflows.distributions  # noqa: E402
import nflows.flows  # noqa: E402
import nflows.nn.nets  # noqa: E402
import nflows.transforms  # noqa: E402
import normflows  # noqa: E402
import zuko  # noqa: E402
from nflows.utils import torchutils  # noqa: E402


class Size(NamedTuple):
    dim: int
    num_flows: int
    num_hidden: int
    batch: int


SIZES = {
    "small": Size(2, 4, 8, 64),
    "middle": Size(16, 6, 64, 512),
    "large": Size(64, 8, 256, 4096),
}


class Model(NamedTuple):
    """A library's flow, as far as the benchmarks use it."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Any]


def of_flowlab(size: Size) -> Model:
    options = {"num_flows": size.num_flows, "num_hidden": size.num_hidden}
    flow = build_flow("coupling", size.dim, **options)
    return Model(flow, flow.log_prob, flow.sample)


def of_zuko(size: Size) -> Model:
    flow = zuko.flows.RealNVP(
        size.dim, transforms=size.num_flows, hidden_features=2 * (size.num_hidden,)
    )
    return Model(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)))


def of_normflows(size: Size) -> Model:
    half, layers = size.dim // 2, []
    for _ in range(size.num_flows):
        net = normflows.nets.MLP([half, *2 * [size.num_hidden], size.dim], init_zeros=True)
        layers += [
            normflows.flows.AffineCouplingBlock(net),
            normflows.flows.Permute(size.dim, mode="swap"),
        ]
    flow = normflows.NormalizingFlow(
        normflows.distributions.base.DiagGaussian(size.dim, trainable=False), layers
    )
    return Model(flow, flow.log_prob, flow.sample)


class NflowsMLP(nflows.nn.nets.MLP):
    """Takes the context that nflows' couplings pass, as its other nets do."""

    def forward(self, inputs: Tensor, context: None = None) -> Tensor:
        return super().forward(inputs)


def of_nflows(size: Size) -> Model:
    def net(num_in: int, num_out: int) -> nn.Module:
        return NflowsMLP([num_in], [num_out], 2 * [size.num_hidden])

    layers = [
        nflows.transforms.AffineCouplingTransform(
            torchutils.create_alternating_binary_mask(size.dim, even=i % 2 == 0), net
        )
        for i in range(size.num_flows)
    ]
    flow = nflows.flows.Flow(
        nflows.transforms.CompositeTransform(layers),
        nflows.distributions.StandardNormal([size.dim]),
    )
    return Model(flow, flow.log_prob, flow.sample)


LIBRARIES = {"flowlab": of_flowlab, "zuko": of_zuko, "normflows": of_normflows, "nflows": of_nflows}


def models(size: Size, device: str) -> dict[str, Model]:
    """The flow of each library; raises ValueError if they are not of one size."""
    torch.manual_seed(0)
    made = {name: make(size) for name, make in LIBRARIES.items()}
    for model in made.values():
        model.module.to(device)
    counts = {n: sum(p.numel() for p in m.module.parameters()) for n, m in made.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"not the same number of parameters: {counts}")
    return made
