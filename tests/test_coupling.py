"""Coupling layers and their networks, against closed forms and PyTorch's own."""

import functools
import math
import warnings

import pytest
import torch
from contract import context_of, make, points
from scipy import stats
from torch import nn

from flowlab.flows import build_flow
from flowlab.flows.nets import MLP


def test_a_single_coupling_layer_warns_and_keeps_half_of_the_coordinates() -> None:
    with pytest.warns(UserWarning, match="half of the coordinates never move"):
        flow = build_flow("coupling", 3, num_flows=1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_()
    x = points(10, 3).float()
    u, _ = flow(x)
    assert torch.equal(u[:, 0::2], x[:, 0::2])
    assert (u[:, 1] != x[:, 1]).all()


@pytest.mark.parametrize(("dim", "num_flows"), [(3, 2), (1, 1)])
def test_where_all_coordinates_move_there_is_no_warning(dim: int, num_flows: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_flow("coupling", dim, num_flows=num_flows)


def test_a_hand_set_affine_flow_is_a_multivariate_normal() -> None:
    """With t linear in the kept half and s constant, u = A x + c, so x is Gaussian."""
    s0, a, t0, s1, b, t1 = 0.3, 0.8, -0.5, -0.6, 0.4, 1.1
    flow = build_flow("coupling", 2, num_flows=2, num_hidden=2, bound=2.0).double()
    ((w1, w2, w3, b1, b2, b3),) = flow.chain[0].weights
    double = functools.partial(torch.tensor, dtype=torch.float64)
    with torch.no_grad():
        w1.copy_(double([[1], [-1]]))  # relu(x) - relu(-x) = x
        w2.copy_(torch.eye(2))
        w3.copy_(double([[[0, 0], [a, -a]], [[0, 0], [b, -b]]]))
        b1.zero_()
        b2.zero_()
        b3.copy_(double([[2 * math.atanh(s0 / 2), t0], [2 * math.atanh(s1 / 2), t1]]))
    first, second = double([[1, 0], [a, math.exp(s0)]]), double([[math.exp(s1), b], [0, 1]])
    matrix, offset = second @ first, second @ double([0, t0]) + double([t1, 0])
    normal = torch.distributions.MultivariateNormal(
        -torch.linalg.solve(matrix, offset), precision_matrix=matrix.T @ matrix
    )
    x = 3 * points(100, 2)
    torch.testing.assert_close(flow.log_prob(x), normal.log_prob(x), rtol=0, atol=1e-10)


def test_the_mlps_are_plain_networks_of_pytorch() -> None:
    """Two hidden layers of ReLU units, and a last layer of zeros."""
    mlp = MLP(4, num_hidden=6, num_out=5).double()
    assert not mlp.weights[2].any()
    assert not mlp.biases[2].any()
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5))
    net.double()
    with torch.no_grad():
        for i in range(3):
            mlp.weights[i].normal_()
            mlp.biases[i].normal_()
            net[2 * i].weight.copy_(mlp.weights[i])
            net[2 * i].bias.copy_(mlp.biases[i])
    x = points(50, 4)
    torch.testing.assert_close(mlp(x), net(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(mlp(x[:, :1], x[:, 1:]), net(x), rtol=0, atol=1e-12)


def test_hidden_layers_start_as_those_of_pytorch() -> None:
    """Kolmogorov-Smirnov against `torch.nn.Linear` itself, fails by chance four times in 10^6."""
    torch.manual_seed(0)
    mlps = [MLP(4, num_hidden=25, num_out=2) for _ in range(300)]
    for i, num_in in enumerate((4, 25)):
        layers = [nn.Linear(num_in, 25) for _ in range(300)]
        pairs = [
            (torch.stack([m.weights[i] for m in mlps]), torch.stack([n.weight for n in layers])),
            (torch.stack([m.biases[i] for m in mlps]), torch.stack([n.bias for n in layers])),
        ]
        for own, other in pairs:
            own, other = own.detach().flatten(), other.detach().flatten()
            assert own.abs().max() <= 1 / math.sqrt(num_in)
            assert stats.ks_2samp(own.numpy(), other.numpy()).pvalue > 1e-6


def test_a_coupling_flow_of_one_coordinate_is_a_gaussian_for_each_context() -> None:
    flow = make("coupling-context", 1)
    contexts, x = context_of(flow, 4), torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        log_p = flow.log_prob(x, contexts)
        mean = flow.inverse(torch.zeros(1, dtype=torch.float64), contexts)[0][:, 0]
        scale = flow.inverse(torch.ones(1, dtype=torch.float64), contexts)[0][:, 0] - mean
    expected = torch.distributions.Normal(mean, scale).log_prob(x[..., 0])
    torch.testing.assert_close(log_p, expected, rtol=0, atol=1e-10)
    assert len(mean.unique()) == len(scale.unique()) == 4
