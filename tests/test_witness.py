"""Other libraries as witnesses: with the same weights, the same densities.

They are those of `pip install -e ".[bench]"`; without them this file is skipped.
"""

import math
import warnings
from typing import Any

import pytest
import torch
from contract import points
from torch import Tensor, nn

from flowlab.flows import Flow, build_flow
from flowlab.flows.autoregressive import maf
from flowlab.flows.coupling import spline
from flowlab.flows.univariate import FLATTEST, LEAST

SIZE = {"num_flows": 3, "num_hidden": 8}


def library(name: str) -> Any:
    """A module of another library, whose own warnings about the torch of today are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def random_flow(layers: list[Any], dim: int) -> Flow:
    torch.manual_seed(0)
    for layer in layers:
        for parameter in layer.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return Flow(layers, (dim,)).double()


def copy(linear: nn.Module, weight: Tensor, bias: Tensor) -> None:
    linear.weight.data.copy_(weight)
    linear.bias.data.copy_(bias)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_maf_has_the_density_of_zuko_s(dim: int) -> None:
    zuko = library("zuko")
    affine = torch.distributions.AffineTransform

    def univariate(r: Tensor, t: Tensor) -> Any:
        return affine(t, (3 * (r / 3).tanh()).exp())

    layers = maf((dim,), 0, **SIZE, bound=3.0)
    flow = random_flow(layers, dim)
    peer = zuko.flows.MAF(dim, transforms=3, hidden_features=(8, 8), univariate=univariate).double()
    # zuko deals the degrees out in turn, and has a coordinate's outputs next to each other
    units = torch.argsort(torch.arange(8) % (dim - 1), stable=True)
    outputs = torch.arange(2 * dim).reshape(2, dim).T.flatten()
    for layer, other in zip(layers, peer.transform.transforms, strict=True):
        first, second, last = (m for m in other.hyper if hasattr(m, "weight"))
        (w1, w2, w3), (b1, b2, b3) = layer.net.weights, layer.net.biases
        back = torch.argsort(units)
        copy(first, w1[back], b1[back])
        copy(second, w2[back][:, back], b2[back])
        copy(last, w3[outputs][:, back], b3[outputs])
    x = 2 * points(200, dim)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x), peer().log_prob(x), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Inputs to the softmax are not scaled down")
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_splines_have_the_density_of_nflows(dim: int) -> None:
    library("nflows")
    transforms = library("nflows.transforms")
    nets, flows = library("nflows.nn.nets"), library("nflows.flows")
    distributions = library("nflows.distributions")

    class Net(nets.MLP):  # type: ignore[misc,name-defined]
        def forward(self, inputs: Tensor, context: None = None) -> Tensor:
            return super().forward(inputs)

    bins, bound = 6, 3.0
    layers = spline((dim,), 0, **SIZE, num_bins=bins, bound=bound)
    flow, peers = random_flow(layers, dim), []
    for layer in layers:
        peer = transforms.PiecewiseRationalQuadraticCouplingTransform(
            (torch.arange(dim) + layer.kept) % 2,
            lambda num_in, num_out: Net([num_in], [num_out], [8, 8]),
            num_bins=bins,
            tails="linear",
            tail_bound=bound,
            min_bin_width=LEAST / bins,
            min_bin_height=LEAST / bins,
            min_derivative=FLATTEST,
        )
        net, moved = peer.transform_net, len(peer.transform_features)
        (w1, w2, w3), (b1, b2, b3) = layer.net.weights, layer.net.biases
        order = torch.arange(len(w3)).reshape(-1, moved).T.flatten()
        moves = torch.zeros(3 * bins - 1, moved)
        moves[2 * bins :] = math.log(math.expm1(1 - FLATTEST))  # which nflows does not have
        copy(net._input_layer, w1, b1)
        copy(net._hidden_layers[0], w2, b2)
        copy(net._output_layer, w3[order], (b3 + moves.flatten())[order])
        peers.append(peer)
    peer = flows.Flow(
        transforms.CompositeTransform(peers), distributions.StandardNormal([dim])
    ).double()
    x = 2 * points(200, dim)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x), peer.log_prob(x), rtol=0, atol=1e-5)


def test_planar_layers_are_those_of_normflows() -> None:
    """Its u is another one, for its m(a) = log(1 + exp(a)) - 1 has no margin and no m(0) = 0."""
    normflows = library("normflows")
    torch.manual_seed(0)
    flow = build_flow("planar", 3, num_flows=4)
    layers = []
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for layer in flow.transforms:
            w, v, b, wv = (value.flatten() for value in layer.given(None))
            u = v + (torch.log(torch.expm1(wv + 1)) - wv) * w / w.square().sum()
            planar = normflows.flows.Planar((3,), u=u[None], w=w[None], b=b)
            layers.append(normflows.flows.Reverse(planar))  # there it goes from base to data
    base = normflows.distributions.base.DiagGaussian(3, trainable=False)
    witness, x = normflows.NormalizingFlow(base, layers[::-1]), torch.randn(100, 3)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = witness.log_prob(x)
    torch.testing.assert_close(flow.log_prob(x), expected, rtol=0, atol=1e-5)
