"""Layers that scale, shift and mix all coordinates, and how a flow is fitted to its data."""

import pytest
import torch
from torch import Tensor

from flowlab.flows import Flow, Transform, build_flow
from flowlab.flows.linear import LU, ActNorm


def points(n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def disturbed(layer: Transform) -> Transform:
    """With random weights, in double precision."""
    torch.manual_seed(2)
    for parameter in layer.double().parameters():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    return layer


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("kind", [ActNorm, LU])
def test_a_linear_layer_by_its_matrix(kind: type[ActNorm | LU], dim: int) -> None:
    layer, x = disturbed(kind(dim)), points(20, dim)
    u, log_det = layer(x)
    zero = layer(torch.zeros(1, dim, dtype=torch.float64))[0]
    matrix = (layer(torch.eye(dim, dtype=torch.float64))[0] - zero).mT
    torch.testing.assert_close(u, x @ matrix.mT + zero, rtol=0, atol=1e-12)
    expected = torch.linalg.slogdet(matrix).logabsdet.expand(20)
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-12)
    back, log_det_back = layer.inverse(u)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [ActNorm, LU])
def test_a_linear_layer_under_vmap_and_compiled(kind: type[ActNorm | LU]) -> None:
    layers, x = [disturbed(kind(3)) for _ in range(2)], points(20, 3)
    next(layers[1].parameters()).data.mul_(2)
    state = torch.func.stack_module_state(layers)

    class Back(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layers[0]

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer.inverse(*self.layer(x)[:1])

    def both(named: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        named = {f"layer.{name}": value for name, value in named.items()}
        return torch.func.functional_call(Back(), named, (x,))

    value, log_det = torch.func.vmap(both)(state[0] | state[1])
    torch.testing.assert_close(value, x.expand(2, 20, 3), rtol=0, atol=1e-10)
    expected = torch.stack([-layer(x)[1] for layer in layers])
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-12)
    compiled = torch.compile(layers[0], backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, layers[0](x))


def test_the_permutation_is_that_of_the_state() -> None:
    """A layer that was saved and loaded mixes as it did, whatever a new one would start with."""
    layer, x = disturbed(LU(4)), points(20, 4)
    layer.permutation.copy_(layer.permutation[[2, 0, 3, 1]])
    other = LU(4).double()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x)[0], layer(x)[0])
    torch.testing.assert_close(LU(4)(x.float())[0], x.float().flip(-1))


def test_points_that_actnorm_was_fitted_to_come_out_standardised() -> None:
    layer, x = ActNorm(3).double(), 5 + points(200, 3) * torch.tensor([0.1, 1.0, 30.0])
    assert torch.equal(layer(x)[0], x)
    layer.fit(x)
    u, _ = layer(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(3, dtype=torch.float64))
    layer = ActNorm(2).double()
    layer.fit(torch.ones(10, 2, dtype=torch.float64))
    assert layer(points(5, 2))[0].isfinite().all()


def test_actnorm_is_fitted_once_and_a_reload_does_not_forget_it() -> None:
    layer, x = ActNorm(3), points(200, 3).float()
    layer.fit(3 * x + 1)
    expected = layer(x)
    reloaded = ActNorm(3)
    reloaded.load_state_dict(layer.state_dict())
    for fitted in (layer, reloaded):
        fitted.fit(x)
        for value, other in zip(fitted(x), expected, strict=True):
            assert torch.equal(value, other)


def test_a_flow_fits_each_layer_to_what_reaches_it() -> None:
    first, second = ActNorm(2), ActNorm(2)
    flow = Flow([first, LU(2), second], (2,)).double()
    flow.transforms[1].raw.data.normal_()
    x = 4 + points(5 * 100, 2).reshape(5, 100, 2) @ torch.tensor([[1.0, 2.0], [0.0, 3.0]]).double()
    flow.fit(x)
    for points_at in (first(x.reshape(-1, 2))[0], flow(x)[0].reshape(-1, 2)):
        torch.testing.assert_close(points_at.mean(0), torch.zeros(2, dtype=torch.float64))
        torch.testing.assert_close(
            points_at.std(0, correction=0), torch.ones(2, dtype=torch.float64)
        )


def test_a_flow_with_mixing_is_fitted_to_its_points_and_once() -> None:
    x = points(500, 3) * torch.tensor([0.1, 1.0, 30.0]) + 5
    flow = build_flow("maf", 3, num_flows=3, mixing="lu").double()
    flow.fit(x)
    first, second = (layer for layer in flow.transforms if isinstance(layer, ActNorm))
    u, _ = first(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(3).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(second.b, torch.zeros(3).double(), rtol=0, atol=1e-10)
    before = first.b.clone()
    flow.fit(x + 1)
    assert torch.equal(first.b, before)
    with pytest.raises(ValueError, match="mixing must be flip or lu, got 'x'"):
        build_flow("naf", 3, mixing="x")
