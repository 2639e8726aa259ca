"""The same flows in flowlab, zuko, normflows and nflows: pip install -e ".[bench]"

Affine coupling is put together from its library's own parts in the way of its documentation:
`num_flows` layers whose MLPs have two hidden layers of `num_hidden` ReLU units, alternating masks
(normflows: halves that swap, which is the same up to the order of the coordinates), and the same
number of parameters, which is checked. `FAMILIES` has the other families, each with the libraries
that have it.
"""

import warnings
from collections.abc import Callable
from functools import partial
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
from zuko.flows.coupling import GeneralCouplingTransform  # noqa: E402


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


BINS, BOUND = 8, 5.0  # of splines
Makers = dict[str, Callable[[Size], Model]]


def flowlab_model(family: str, size: Size, **options: Any) -> Model:
    options = {"num_flows": size.num_flows, "num_hidden": size.num_hidden} | options
    flow = build_flow(family, size.dim, **options)
    return Model(flow, flow.log_prob, flow.sample)


def zuko_model(flow: nn.Module) -> Model:
    return Model(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)))


def nflows_model(size: Size, layers: list[nn.Module]) -> Model:
    flow = nflows.flows.Flow(
        nflows.transforms.CompositeTransform(layers),
        nflows.distributions.StandardNormal([size.dim]),
    )
    return Model(flow, flow.log_prob, flow.sample)


def normflows_model(size: Size, layers: list[nn.Module]) -> Model:
    base = normflows.distributions.base.DiagGaussian(size.dim, trainable=False)
    flow = normflows.NormalizingFlow(base, layers)
    return Model(flow, flow.log_prob, flow.sample)


def zuko_spline(size: Size) -> Model:
    """Coupling: zuko's own NSF is autoregressive in all but its passes."""
    orders = [torch.arange(size.dim) % 2 == i % 2 for i in range(size.num_flows)]
    layers = [
        GeneralCouplingTransform(
            size.dim,
            mask=order,
            univariate=partial(zuko.transforms.MonotonicRQSTransform, bound=BOUND),
            shapes=[(BINS,), (BINS,), (BINS - 1,)],
            hidden_features=2 * (size.num_hidden,),
        )
        for order in orders
    ]
    normal = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(size.dim), torch.ones(size.dim), buffer=True
    )
    return zuko_model(zuko.lazy.Flow(layers, normal))


def nflows_spline(size: Size) -> Model:
    def net(num_in: int, num_out: int) -> nn.Module:
        return NflowsMLP([num_in], [num_out], 2 * [size.num_hidden])

    layers = [
        nflows.transforms.PiecewiseRationalQuadraticCouplingTransform(
            torchutils.create_alternating_binary_mask(size.dim, even=i % 2 == 0),
            net,
            num_bins=BINS,
            tails="linear",
            tail_bound=BOUND,
        )
        for i in range(size.num_flows)
    ]
    return nflows_model(size, layers)


def zuko_autoregressive(kind: Callable[..., nn.Module], size: Size, **options: Any) -> nn.Module:
    hidden = 2 * (size.num_hidden,)
    return kind(size.dim, transforms=size.num_flows, hidden_features=hidden, **options)


def zuko_iaf(size: Size) -> Model:
    flow = zuko_autoregressive(zuko.flows.MAF, size)
    layers = [zuko.lazy.LazyInverse(layer) for layer in flow.transform.transforms]
    return zuko_model(zuko.lazy.Flow(layers, flow.base))


def nflows_autoregressive(
    kind: Callable[..., nn.Module], size: Size, inverse: bool = False, **options: Any
) -> Model:
    layers = []
    for _ in range(size.num_flows):
        layer = kind(
            features=size.dim,
            hidden_features=size.num_hidden,
            num_blocks=1,  # after a first layer
            use_residual_blocks=False,
            **options,
        )
        if inverse:
            layer = nflows.transforms.InverseTransform(layer)
        layers += [layer, nflows.transforms.ReversePermutation(size.dim)]
    return nflows_model(size, layers)


def normflows_autoregressive(size: Size, inverse: bool) -> Model:
    layers = []
    for _ in range(size.num_flows):
        layer = normflows.flows.MaskedAffineAutoregressive(
            size.dim, size.num_hidden, num_blocks=1, use_residual_blocks=False
        )
        layers.append(layer if inverse else normflows.flows.Reverse(layer))
        layers.append(normflows.flows.Permute(size.dim, mode="swap"))
    return normflows_model(size, layers)


AFFINE = nflows.transforms.MaskedAffineAutoregressiveTransform
SPLINE = partial(
    nflows.transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    num_bins=BINS,
    tails="linear",
    tail_bound=BOUND,
)

FAMILIES: dict[str, Makers] = {
    "spline": {"zuko": zuko_spline, "nflows": nflows_spline},
    "maf": {
        "zuko": lambda size: zuko_model(zuko_autoregressive(zuko.flows.MAF, size)),
        "normflows": partial(normflows_autoregressive, inverse=False),
        "nflows": partial(nflows_autoregressive, AFFINE),
    },
    "iaf": {
        "zuko": zuko_iaf,
        "normflows": partial(normflows_autoregressive, inverse=True),
        "nflows": partial(nflows_autoregressive, AFFINE, inverse=True),
    },
    "spline_ar": {
        "zuko": lambda size: zuko_model(zuko_autoregressive(zuko.flows.NSF, size, bins=BINS)),
        "nflows": partial(nflows_autoregressive, SPLINE),
    },
    "naf": {"zuko": lambda size: zuko_model(zuko_autoregressive(zuko.flows.NAF, size))},
}
NOT_ALIKE = {"naf"}  # zuko's sigmoids are of one network for all, with parameters of its own


def family_models(family: str, size: Size) -> dict[str, Model]:
    """A family's flow of each library; raises ValueError if they are not of one size."""
    torch.manual_seed(0)
    made = {"flowlab": flowlab_model(family, size)}
    made |= {name: make(size) for name, make in FAMILIES[family].items()}
    counts = {n: sum(p.numel() for p in m.module.parameters()) for n, m in made.items()}
    if len(set(counts.values())) > 1 and family not in NOT_ALIKE:
        raise ValueError(f"not the same number of parameters: {counts}")
    return made
