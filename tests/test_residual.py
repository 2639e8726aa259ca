"""Residual blocks: the constraint, the exact log-det and its estimate, and the solver."""

import math
import sys

import pytest
import torch
from torch import Tensor

from flowlab.errors import ConfigError
from flowlab.flows import build_flow
from flowlab.flows.residual import Residual, estimate, spectral_norm
from flowlab.flows.tangents import EXACT, jacobian, pushed, run
from flowlab.training.objectives import Likelihood
from flowlab.training.replicates import Replicates

DOUBLE = torch.float64
L = 0.97**3


def wild(dim: int, coefficient: float = 0.97, context: int = 0, scale: float = 30.0) -> Residual:
    """A block whose weights are far too large for a contraction, all of them."""
    torch.manual_seed(dim)
    layer = Residual(dim, 12, coefficient, context).double()
    for parameter in layer.net.weights:
        parameter.data = scale * torch.randn_like(parameter)
    return layer


def jacobian_of_g(layer: Residual, x: Tensor) -> Tensor:
    one = torch.func.jacrev(lambda x: layer(x[None])[0][0] - x)
    return torch.func.vmap(one)(x)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 1), (1, 4)])
def test_the_spectral_norm_and_its_gradient_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=DOUBLE, requires_grad=True)
    own, other = spectral_norm(weight), torch.linalg.matrix_norm(weight, 2)
    torch.testing.assert_close(own, other)
    gradients = (torch.autograd.grad(norm, weight)[0] for norm in (own, other))
    torch.testing.assert_close(*gradients)


def test_the_spectral_norm_of_special_matrices() -> None:
    assert float(spectral_norm(torch.eye(4) * 3)) == pytest.approx(3)  # all directions alike
    assert float(spectral_norm(torch.zeros(4, 2))) == 0
    assert spectral_norm(torch.tensor([[math.nan, 1.0], [1.0, 2.0]])).isnan()  # and no exception


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_what_is_added_is_a_contraction_whatever_the_weights(dim: int) -> None:
    layer, x = wild(dim), 0.1 * torch.randn(500, dim, dtype=DOUBLE)
    norms = torch.linalg.matrix_norm(jacobian_of_g(layer, x), 2)
    assert norms.max() <= L
    weights, _ = layer._contraction(None)
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(0.97)
    layer = Residual(dim, 12, 0.97)
    weights, _ = layer._contraction(None)
    assert torch.equal(weights[-1], layer.net.weights[-1])  # small ones are left alone


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("dim", [1, 2, 5, 20])
def test_the_point_behind_is_found_to_rounding_at_the_edge_of_the_constraint(
    dim: int, dtype: torch.dtype
) -> None:
    layer = wild(dim).to(dtype)
    u = 3 * torch.randn(500, dim, dtype=dtype)
    with torch.no_grad():
        forth, _ = layer(layer.inverse(u)[0])
    torch.testing.assert_close(forth, u, rtol=0, atol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("wrong", [-1.0, -0.9])
def test_where_steps_of_newton_are_no_good_the_fixed_point_goes_on(
    wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With I + J taken for 0, whose steps are not finite, and for I / 10, whose are too long."""
    layer, u = wild(2), 3 * torch.randn(50, 2, dtype=DOUBLE)
    jacobians = torch.full((50, 2, 1), wrong, dtype=DOUBLE) * torch.eye(2)
    module = sys.modules[Residual.__module__]
    monkeypatch.setattr(module, "jacobian", lambda *_: jacobians)
    monkeypatch.setitem(vars(module)["NEWTON"], DOUBLE, (400, 2))
    forth = u - layer(layer.solve(u))[0]
    assert forth.abs().max() < 1e-12


def test_nothing_is_remembered_of_the_weights_before() -> None:
    """Norms that are kept from training to evaluation, or in a checkpoint, have gone stale."""
    layer, x = wild(2), torch.randn(50, 2, dtype=DOUBLE)
    layer(x)
    assert layer.state_dict().keys() == dict(layer.named_parameters()).keys()
    other = wild(3)  # of other weights; then of the same, loaded
    other = Residual(2, 12, 0.97).double().eval()
    other(x)
    for parameter in layer.net.weights:
        parameter.data *= 50
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(other.inverse(x)[0])[0], x, rtol=0, atol=1e-12)
        assert torch.equal(other(x)[0], layer(x)[0])


def test_slopes_push_vectors_as_the_jacobian_does() -> None:
    layer, x = wild(4, context=2), torch.randn(10, 4, dtype=DOUBLE)
    v, c = torch.randn_like(x), torch.randn(10, 2, dtype=DOUBLE)
    weights, biases = layer._contraction(c)
    value, slopes = run(x, weights, biases)
    torch.testing.assert_close(layer(x, c)[0], x + value)
    jacobians = torch.func.jacrev(lambda x: run(x, weights, biases)[0].sum(0))(x).transpose(0, 1)
    expected = (jacobians @ v.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(pushed(v, weights, slopes), expected)
    torch.testing.assert_close(jacobian(weights, slopes).mT, jacobians)


def test_the_estimate_and_its_gradient_are_unbiased() -> None:
    """Means of 800 estimates with a number of terms each: 5 standard errors, 6 in 10^7."""
    layer, x = wild(6, coefficient=0.8, scale=0.1), torch.zeros(1, 6, dtype=DOUBLE)
    for weight in layer.net.weights:  # near a multiple of the identity, so that powers count
        weight.data += torch.eye(*weight.shape)
    weights, biases = layer._contraction(None)
    _, slopes = run(x.expand(50, 6), weights, biases)
    exact = torch.linalg.slogdet(torch.eye(6) + jacobian(weights, slopes)[0]).logabsdet
    found = torch.stack([estimate(weights, slopes, 0.8**3).mean() for _ in range(800)])
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - exact) < 5 * error
    assert error < 0.01 * exact.abs()  # or the test would see nothing
    third = (jacobian(weights, slopes)[0].matrix_power(3).trace() / 3).abs()
    assert third > 10 * error  # so it would see a weight that is missing
    parameters = [layer.net.biases[1], layer.net.weights[1]]
    own, expected = (
        torch.cat([g.flatten() for g in torch.autograd.grad(y, parameters, retain_graph=True)])
        for y in (found.mean(), exact)
    )
    assert (own - expected).norm() < 0.1 * expected.norm()


def test_beyond_the_exact_it_is_an_estimate_within_autograd_alone() -> None:
    dim = EXACT + 4
    torch.manual_seed(0)
    flow = build_flow("residual", dim, num_flows=2, num_hidden=8).double()
    for parameter in flow.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    x = torch.randn(5, dim, dtype=DOUBLE)
    jacobians = torch.func.jacrev(lambda x: flow(x)[0].sum(0))(x).transpose(0, 1)
    with torch.no_grad():
        log_det = flow(x)[1]
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians).logabsdet)
    first, second = flow(x)[1], flow(x)[1]
    assert first.requires_grad
    assert not torch.equal(first, second)
    estimates = torch.stack([flow(x)[1].detach() for _ in range(150)])
    error = estimates.std(0) / math.sqrt(150)
    assert ((estimates.mean(0) - log_det).abs() < 5 * error).all()


def test_what_is_estimated_is_not_replicated() -> None:
    few, many = ([build_flow("residual", dim, num_flows=1)] * 2 for dim in (EXACT, EXACT + 1))
    Replicates(few, Likelihood().loss)
    with pytest.raises(ConfigError, match=r"^replicates=2: expected 1 for residual blocks"):
        Replicates(many, Likelihood().loss)


@pytest.mark.parametrize("coefficient", [0.0, 1.0, math.nan])
def test_a_coefficient_that_is_no_contraction_is_refused(coefficient: float) -> None:
    with pytest.raises(ValueError, match="coefficient must be between 0 and 1"):
        build_flow("residual", 2, coefficient=coefficient)
