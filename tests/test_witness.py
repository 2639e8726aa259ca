"""Other libraries as witnesses: with equal weights, the same densities. pip install ".[bench]" """

import warnings

import pytest
import torch

from flowlab.flows import build_flow


def test_planar_layers_are_those_of_normflows() -> None:
    """Its u is another one, for its m(a) = log(1 + exp(a)) - 1 has no margin and no m(0) = 0."""
    normflows = pytest.importorskip("normflows")
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
