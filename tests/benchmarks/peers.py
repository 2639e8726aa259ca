"""The same flows in flowlab, zuko, normflows and nflows: pip install -e ".[bench]"

Each family in `FAMILIES` is put together from its library's own parts in the way of its
documentation, with the same number of parameters, which is checked: `num_flows` layers whose nets
have two hidden layers of `num_hidden` units; couplings have alternating masks (normflows: halves
that swap, which is the same up to the order of the coordinates).
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowlab.flows import FLOWS, build_flow

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
    after_step: Callable[[], Any] = lambda: None


class NflowsMLP(nflows.nn.nets.MLP):
    """Takes the context that nflows' couplings pass, as its other nets do."""

    def forward(self, inputs: Tensor, context: None = None) -> Tensor:
        return super().forward(inputs)


BINS, BOUND = 8, 5.0  # of splines
Makers = dict[str, Callable[[Size], Model]]


def flowlab_model(family: str, size: Size) -> Model:
    sizes = {"num_flows": size.num_flows, "num_hidden": size.num_hidden}
    options = {key: value for key, value in sizes.items() if key in FLOWS[family].__kwdefaults__}
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


def zuko_coupling(size: Size) -> Model:
    hidden = 2 * (size.num_hidden,)
    return zuko_model(
        zuko.flows.RealNVP(size.dim, transforms=size.num_flows, hidden_features=hidden)
    )


def normflows_coupling(size: Size) -> Model:
    half, layers = size.dim // 2, []
    for _ in range(size.num_flows):
        net = normflows.nets.MLP([half, *2 * [size.num_hidden], size.dim], init_zeros=True)
        layers += [
            normflows.flows.AffineCouplingBlock(net),
            normflows.flows.Permute(size.dim, mode="swap"),
        ]
    return normflows_model(size, layers)


def nflows_coupling(kind: Callable[..., nn.Module], size: Size, **options: Any) -> Model:
    def net(num_in: int, num_out: int) -> nn.Module:
        return NflowsMLP([num_in], [num_out], 2 * [size.num_hidden])

    masks = (
        torchutils.create_alternating_binary_mask(size.dim, even=i % 2 == 0)
        for i in range(size.num_flows)
    )
    return nflows_model(size, [kind(mask, net, **options) for mask in masks])


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


def zuko_autoregressive(kind: Callable[..., nn.Module], size: Size, **options: Any) -> nn.Module:
    hidden = 2 * (size.num_hidden,)
    return kind(size.dim, transforms=size.num_flows, hidden_features=hidden, **options)


def zuko_naf(size: Size) -> Model:
    """One monotone network for all coordinates, of a size that makes the parameters as many."""
    network = {"hidden_features": (16,)}
    return zuko_model(zuko_autoregressive(zuko.flows.NAF, size, signal=16, network=network))


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


def normflows_reversed(kind: Callable[..., nn.Module], size: Size) -> Model:
    """From data to base by the formula, as flowlab's; there it has no other direction."""
    layers = [normflows.flows.Reverse(kind((size.dim,))) for _ in range(size.num_flows)]
    return normflows_model(size, layers)


def normflows_residual(size: Size) -> Model:
    layers = []
    for _ in range(size.num_flows):
        widths = [size.dim, size.num_hidden, size.num_hidden, size.dim]
        net = normflows.nets.LipschitzMLP(widths, init_zeros=True, lipschitz_const=0.97)
        layers.append(normflows.flows.Residual(net, reduce_memory=False))
    model = normflows_model(size, layers)
    # without which nothing is bounded
    after = partial(normflows.utils.update_lipschitz, model.module, 5)
    return model._replace(after_step=after)


def zuko_continuous(size: Size) -> Model:
    hidden = 2 * (size.num_hidden,)
    return zuko_model(zuko.flows.CNF(size.dim, hidden_features=hidden, activation=nn.Tanh))


AFFINE = nflows.transforms.MaskedAffineAutoregressiveTransform
SPLINE = partial(
    nflows.transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    num_bins=BINS,
    tails="linear",
    tail_bound=BOUND,
)

COUPLING = nflows.transforms.AffineCouplingTransform
SPLINE_COUPLING = partial(
    nflows.transforms.PiecewiseRationalQuadraticCouplingTransform,
    num_bins=BINS,
    tails="linear",
    tail_bound=BOUND,
)

FAMILIES: dict[str, Makers] = {
    "coupling": {
        "zuko": zuko_coupling,
        "normflows": normflows_coupling,
        "nflows": partial(nflows_coupling, COUPLING),
    },
    "spline": {"zuko": zuko_spline, "nflows": partial(nflows_coupling, SPLINE_COUPLING)},
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
    "naf": {"zuko": zuko_naf},
    "planar": {"normflows": partial(normflows_reversed, normflows.flows.Planar)},
    "radial": {"normflows": partial(normflows_reversed, normflows.flows.Radial)},
    "residual": {"normflows": normflows_residual},
    "ffjord": {"zuko": zuko_continuous},
}
LIBRARIES = ("flowlab", "zuko", "normflows", "nflows")
# zuko's sigmoids are of one network for all, and its fields have the time as inputs; normflows has
# a slope to learn for each unit of a residual block
NOT_ALIKE = {"naf", "residual", "ffjord"}
DEPTHS = {"planar": 32, "radial": 32, "ffjord": 1}  # where another is the family's way


def models(family: str, size: Size, device: str = "cpu") -> dict[str, Model]:
    """A family's flow of each library; raises ValueError if they are not of one size."""
    torch.manual_seed(0)
    size = size._replace(num_flows=DEPTHS.get(family, size.num_flows))
    made = {"flowlab": flowlab_model(family, size)}
    made |= {name: make(size) for name, make in FAMILIES[family].items()}
    for model in made.values():
        model.module.to(device)
    counts = {n: sum(p.numel() for p in m.module.parameters()) for n, m in made.items()}
    if len(set(counts.values())) > 1 and family not in NOT_ALIKE:
        raise ValueError(f"not the same number of parameters: {counts}")
    return made


def glows(num_flows: int, num_hidden: int, side: int) -> dict[str, Model]:
    """Glow of two levels for images (N, side, side, 1), as flowlab's and as normflows' example.

    Flowlab's has one convolution more, for the prior of what is split off.
    """
    torch.manual_seed(0)
    ours = build_flow("glow", (side, side, 1), num_flows=num_flows, num_hidden=num_hidden)
    levels, bases = [], []
    for channels, size in ((8, side // 4), (4, side // 2)):
        steps = [normflows.flows.GlowBlock(channels, num_hidden) for _ in range(num_flows)]
        levels.append([*steps, normflows.flows.Squeeze()])
        shape = (channels if size == side // 4 else channels // 2, size, size)
        bases.append(normflows.distributions.DiagGaussian(shape, trainable=False))
    theirs = normflows.MultiscaleFlow(bases, levels, [normflows.flows.Merge()], class_cond=False)

    def log_prob(x: Tensor) -> Any:
        return theirs.log_prob(x.permute(0, 3, 1, 2), None)

    return {
        "flowlab": Model(ours, ours.log_prob, ours.sample),
        "normflows": Model(theirs, log_prob, theirs.sample),
    }
