"""Continuous flows: against scipy's solver, the matrix exponential, and their own order."""

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from flowlab.flows import build_flow
from flowlab.flows.ffjord import Ffjord
from flowlab.training.replicates import Replicates

DOUBLE = torch.float64


def make(dim: int, num_steps: int = 8, context: int = 0, spread: float = 0.7) -> Ffjord:
    torch.manual_seed(dim)
    layer = Ffjord(dim, 6, num_steps, context).double()
    for parameter in layer.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    return layer


def drift(layer: Ffjord, x: Tensor, t: float, context: Tensor | None) -> Tensor:
    """The field by its formula, at points (N, D)."""
    for i in range(3):
        gate, drift = layer.gates[i], layer.drifts[i]
        x = x @ layer.net.weights[i].T + layer.net.biases[i]
        if i == 0 and context is not None:
            x = x + context @ layer.net.shift.T
        x = x * torch.sigmoid(gate[0] * t + gate[1]) + drift * t
        x = x if i == 2 else torch.tanh(x)
    return x


@pytest.mark.parametrize("context", [0, 2])
def test_the_field_is_that_of_the_formula_and_its_trace_that_of_autograd(context: int) -> None:
    layer, x = make(4, 5, context), torch.randn(10, 4, dtype=DOUBLE)
    c = torch.randn(10, context, dtype=DOUBLE) if context else None
    for i, field in enumerate(layer._fields(c)):
        value, trace = field.at(x)
        torch.testing.assert_close(value, drift(layer, x, i / 10, c))
        jacobian = torch.func.jacrev(lambda x, t=i / 10: drift(layer, x, t, c).sum(0))(x)
        torch.testing.assert_close(trace, jacobian.permute(1, 0, 2).diagonal(dim1=1, dim2=2).sum(1))


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_it_comes_to_where_scipy_does(direction: str) -> None:
    layer, x = make(3, 64), torch.randn(5, 3, dtype=DOUBLE)
    with torch.no_grad():
        found, log_det = getattr(layer, direction)(x)

    def derivative(t: float, state: object) -> object:
        x = torch.as_tensor(state).reshape(5, 4)[:, :3]
        jacobian = torch.func.jacrev(lambda x: drift(layer, x, t, None).sum(0))(x)
        trace = jacobian.permute(1, 0, 2).diagonal(dim1=1, dim2=2).sum(1)
        return torch.cat((drift(layer, x, t, None), trace[:, None]), 1).detach().flatten().numpy()

    start = torch.cat((x, torch.zeros(5, 1)), 1).flatten().numpy()
    span = (0, 1) if direction == "forward" else (1, 0)
    end = solve_ivp(derivative, span, start, method="DOP853", rtol=1e-10, atol=1e-10).y[:, -1]
    end = torch.as_tensor(end).reshape(5, 4)
    torch.testing.assert_close(found, end[:, :3], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(log_det, end[:, 3], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_twice_the_steps_have_a_sixteenth_of_the_error(direction: str) -> None:
    layer, x, ends = make(3), torch.randn(200, 3, dtype=DOUBLE), {}
    with torch.no_grad():
        for layer.num_steps in (16, 32, 256):
            value, log_det = getattr(layer, direction)(x)
            ends[layer.num_steps] = torch.cat((value, log_det[:, None]), 1)
    coarse, fine = ((ends[n] - ends[256]).square().mean(0).sqrt() for n in (16, 32))
    assert ((coarse / fine > 12) & (coarse / fine < 20)).all()


def test_where_the_field_is_linear_it_is_the_matrix_exponential() -> None:
    """Near zero tanh is a line; with gates that stand still A is one matrix, the log-det tr A."""
    layer = make(3, 32, spread=0.4)
    for bias, gate, drift in zip(layer.net.biases, layer.gates, layer.drifts, strict=True):
        bias.data.zero_()
        drift.data.zero_()
        gate.data[0].zero_()
    w1, w2, w3 = (
        torch.sigmoid(gate[1])[:, None] * weight
        for weight, gate in zip(layer.net.weights, layer.gates, strict=True)
    )
    matrix, x = w3 @ w2 @ w1, 1e-5 * torch.randn(10, 3, dtype=DOUBLE)
    u, log_det = layer(x)
    torch.testing.assert_close(u, x @ torch.matrix_exp(matrix).T, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(log_det, matrix.trace().expand(10), rtol=1e-7, atol=1e-7)


def test_derivatives_of_second_order_are_there_both_ways() -> None:
    layer, x = make(2, 2), torch.randn(3, 2, dtype=DOUBLE, requires_grad=True)
    for direction in (layer, layer.inverse):
        torch.autograd.gradgradcheck(direction, (x,))


def test_outside_training_a_stiff_field_has_a_density_still() -> None:
    """One that bends so much that the steps of the training err by tenths of a nat."""
    torch.manual_seed(0)
    flow = build_flow("ffjord", 2, num_hidden=16, num_steps=4)
    with torch.no_grad():
        for weight in flow.chain[0].net.weights:
            weight.normal_(std=2.5)
    x = torch.randn(200, 2)
    with torch.no_grad():
        rough, fine = flow.log_prob(x), flow.eval().log_prob(x)
        flow.chain[0].num_steps = 64
        exact = flow.log_prob(x)
    assert (rough - exact).abs().max() > 0.02
    assert (fine - exact).abs().max() < 0.1 * (rough - exact).abs().max()


def test_replicates_leave_training_as_one_flow_does() -> None:
    flows = [build_flow("ffjord", 2, num_hidden=4) for _ in range(2)]
    replicates = Replicates(flows, lambda flow, x, c: -flow.log_prob(x))
    assert not replicates.eval().flow(1).training
    assert replicates.train().flow(1).training
