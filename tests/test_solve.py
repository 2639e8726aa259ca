"""The solvers, and the transforms that are made with them or turned round."""

from collections.abc import Callable

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from flowlab.flows import Flow, Inverse, OneWay
from flowlab.flows.planar import Planar
from flowlab.flows.residual import Residual
from flowlab.flows.solve import EVALUATIONS, find_root

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "line": (lambda x: 2 * x - 3, -100, 100),
    "cubic": (lambda x: x**3 + 0.01 * x - 5, -10, 10),
    "exponential": (lambda x: x.exp() - 2, -20, 20),
    "steep": (lambda x: x + 50 * (20 * (x - 0.3)).tanh(), -60, 60),
    "almost flat": (lambda x: x - 0.999 * (x - 0.7).tanh() - 0.6, -2, 2),
    "bent far out": (lambda x: x + torch.logaddexp(x, torch.zeros_like(x)) - 130, -270, 270),
}


@pytest.mark.parametrize("dtype", EVALUATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_roots_are_those_of_brent_to_rounding(name: str, dtype: torch.dtype) -> None:
    f, low, high = FUNCTIONS[name]
    expected = brentq(
        lambda x: float(f(torch.tensor(x, dtype=torch.float64))), low, high, xtol=1e-15
    )
    bracket = [torch.tensor([end], dtype=dtype) for end in (low, high)]
    count = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return f(x)

    root = find_root(counted, *bracket)
    assert count == EVALUATIONS[dtype]
    # what f makes of a few units in the last place of its argument and of its own terms
    unit = 4 * torch.finfo(dtype).eps * max(1, abs(expected))
    near = torch.tensor([expected - unit, expected + unit], dtype=torch.float64)
    assert f(root).abs() <= f(near).abs().max() + 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", EVALUATIONS)
def test_many_roots_at_once(dtype: torch.dtype) -> None:
    """Each of 10,000 functions x + c tanh(k x + b) - y has its own bracket and its own root."""
    g = torch.Generator().manual_seed(0)
    c, k, b, x = torch.randn(4, 10_000, generator=g, dtype=torch.float64).to(dtype)
    c, k, x = (3 * c).exp(), k.exp(), 10 * x
    y = x + c * (k * x + b).tanh()
    root = find_root(lambda x: x + c * (k * x + b).tanh() - y, y - c, y + c)
    scale = 1 + c + y.abs()  # of the terms that f adds
    residual = (root + c * (k * root + b).tanh() - y).abs()
    slope = 1 + c * k * (1 - (k * root + b).tanh().square())
    assert (residual <= 8 * torch.finfo(dtype).eps * (scale + slope * root.abs())).all()


def test_a_bracket_of_one_point_and_one_that_rounding_has_moved() -> None:
    point = torch.tensor([1.5, -2.0])
    assert torch.equal(find_root(lambda x: x - point, point, point), point)
    low, high = point + 1e-6, point + 3.0
    assert torch.equal(find_root(lambda x: x - point, low, high), low)
    assert torch.equal(find_root(lambda x: x - point, point - 3.0, point - 1e-6), point - 1e-6)
    assert torch.equal(find_root(lambda x: x - point, point - 1.0, point), point)


class Cubic(OneWay):
    """u = exp(a + c) (x + x^3 / 3), each coordinate by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale = self.a.exp() if context is None else (self.a + context).exp()
        log_det = ((1 + x.square()).log() + scale.log()).sum(-1)
        return scale * (x + x**3 / 3), log_det

    def solve(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        scale = self.a.exp() if context is None else (self.a + context).exp()
        goal = u / scale
        return find_root(lambda x: x + x**3 / 3 - goal, -goal.abs(), goal.abs())


def test_one_way_gives_the_point_and_minus_the_log_det_of_the_formula() -> None:
    layer, x = Cubic().double(), torch.randn(50, 2, dtype=torch.float64)
    c = torch.randn(50, 1, dtype=torch.float64)
    for context in (None, c):
        u, log_det = layer(x, context)
        back, log_det_back = layer.inverse(u, context)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-13)
        torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-13)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: layer(x)[0]))(x)
    torch.testing.assert_close(layer(x)[1], torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("layer", [Cubic(), Planar(2), Planar(2, 1), Residual(2, 4, 0.9)])
def test_gradients_through_a_solver_are_those_of_central_differences(layer: OneWay) -> None:
    """In the point, the context and each parameter, of x and of the log-det together."""
    torch.manual_seed(0)
    layer = layer.double()
    for parameter in layer.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    u, weights = torch.randn(2, 6, 2, dtype=torch.float64)
    c = torch.randn(6, 1, dtype=torch.float64)
    context = c if isinstance(layer, Cubic) or hasattr(layer, "slopes") else None

    def value() -> Tensor:
        x, log_det = layer.inverse(u, context)
        return (weights * x).sum() + log_det.square().sum()

    leaves = [u, *layer.parameters(), *([] if context is None else [context])]
    for leaf in leaves:
        leaf.requires_grad_(True)
    gradients = torch.autograd.grad(value(), leaves)
    with torch.no_grad():
        for leaf, gradient in zip(leaves, gradients, strict=True):
            for i in range(leaf.numel()):
                flat, ends = leaf.data.view(-1), []
                for step in (1e-5, -1e-5):
                    flat[i] += step
                    ends.append(value())
                    flat[i] -= step
                found = (ends[0] - ends[1]) / 2e-5
                torch.testing.assert_close(gradient.reshape(-1)[i], found, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("layer", [Cubic(), Planar(2)])
def test_values_through_a_solver_are_the_same_with_and_without_a_gradient(layer: OneWay) -> None:
    layer, u = layer.float(), torch.randn(500, 2)
    with torch.no_grad():
        plain = layer.inverse(u)
    for value, expected in zip(layer.inverse(u), plain, strict=True):
        assert value.requires_grad
        assert torch.equal(value, expected)
    layer.requires_grad_(False)
    assert not any(value.requires_grad for value in layer.inverse(u))
    assert all(value.requires_grad for value in layer.inverse(u.requires_grad_()))
    if isinstance(layer, Cubic):
        context = torch.zeros(500, 1, requires_grad=True)
        assert all(value.requires_grad for value in layer.inverse(u.detach(), context))
    layer.requires_grad_(True)


def test_turned_round_both_directions_change_places() -> None:
    layer, x = Cubic().double(), torch.randn(50, 2, dtype=torch.float64)
    c, turned = torch.randn(50, 1, dtype=torch.float64), Inverse(layer)
    for context in (None, c):
        for ours, theirs in ((turned, layer.inverse), (turned.inverse, layer)):
            for value, expected in zip(ours(x, context), theirs(x, context), strict=True):
                assert torch.equal(value, expected)
    flow = Flow([Inverse(Planar(2)), turned], (2,)).double()
    assert [type(layer) for layer in flow.transforms] == [Inverse, Inverse]
