"""Planar, radial and Sylvester layers: their constraints, and where their formulas have traps."""

import math

import pytest
import torch
from torch import Tensor

from flowlab.flows import build_flow
from flowlab.flows.amortised import Amortised, AmortisedStack
from flowlab.flows.planar import Planar
from flowlab.flows.radial import Radial
from flowlab.flows.sylvester import LARGEST, VARIANTS, Sylvester, gram_schmidt

each_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def points(n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("wu", [-1e3, -30.0, -1.0, 0.0, 30.0])
@each_precision
def test_a_planar_layer_is_invertible_whatever_its_parameters(
    wu: float, dtype: torch.dtype
) -> None:
    layer = Planar(2).to(dtype)
    w = torch.tensor([1.5, -0.5])
    layer.raw.data = torch.cat((wu * w / w.square().sum(), w, torch.tensor([0.4]))).to(dtype)
    # along w, where the layer is not the identity, and most of all at its bend
    x = torch.linspace(-5, 5, 2001, dtype=dtype)[:, None] * w.to(dtype)
    u, log_det = layer(x)
    assert log_det.isfinite().all()
    along = u.double() @ w.double()
    assert (along.diff() > 0).all()
    w, v, _, wv = layer.given(None)
    assert wv.item() > -1
    torch.testing.assert_close((v @ w).squeeze(-1), wv, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        back, _ = layer(layer.inverse(u)[0])
    torch.testing.assert_close(back, u, rtol=0, atol=40 * (1 + abs(wu)) * torch.finfo(dtype).eps)


def test_a_planar_layer_by_its_formula() -> None:
    """f(x) = x + v tanh(w.x + b), and where u = 0 it is the identity."""
    layer = Planar(3).double()
    w, v, b, _ = (value.detach().flatten() for value in layer.given(None))
    x = points(20, 3)
    expected = x + v * torch.tanh(x @ w + b)[:, None]
    torch.testing.assert_close(layer(x)[0], expected)
    wu = float(layer.raw.data[:3] @ w)
    k = math.log(math.exp(0.999) - 1)
    assert float(v @ w) == pytest.approx(math.log1p(math.exp(wu + k)) - 0.999)
    layer.raw.data[:3] = 0
    torch.testing.assert_close(layer(x)[0], x, rtol=0, atol=1e-15)
    layer.raw.data[:] = 0  # |w|^2 too
    u, log_det = layer(x)
    torch.testing.assert_close(u, x, rtol=0, atol=1e-15)
    (u.sum() + log_det.sum()).backward()
    assert layer.raw.grad is not None
    assert layer.raw.grad.isfinite().all()


@pytest.mark.parametrize("e", [-1e3, -30.0, 0.0, 30.0])
@pytest.mark.parametrize("a", [-1e3, -3.0, 30.0])
@each_precision
def test_a_radial_layer_is_invertible_whatever_its_parameters(
    a: float, e: float, dtype: torch.dtype
) -> None:
    layer = Radial(2).to(dtype)
    layer.raw.data = torch.tensor([1.0, -1.0, a, e], dtype=dtype)
    z, alpha, beta = layer.given(None)
    assert alpha > 0
    assert 1 + beta / alpha > 9e-4  # the slope at the center
    x = torch.linspace(0, 5, 500, dtype=dtype)[:, None] * torch.tensor([0.6, 0.8]).to(dtype) + z
    u, log_det = layer(x)
    assert log_det.isfinite().all()
    rounding = 4 * (1 + abs(e)) * torch.finfo(dtype).eps
    assert ((u - z).norm(dim=-1).diff() > -rounding).all()
    back, _ = layer(layer.inverse(u)[0])
    torch.testing.assert_close(back, u, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dim", [1, 3])
def test_the_center_of_a_radial_layer_stays_and_has_a_slope(dim: int) -> None:
    """There r = 0, where |x - z| has no derivative: the layer is linear, with the slope 1 + h."""
    layer = Radial(dim).double()
    layer.raw.data[dim:] = torch.tensor([0.3, 0.8])
    z, alpha, beta = (value.detach() for value in layer.given(None))
    for transform, sign in ((layer, 1), (layer.inverse, -1)):
        x = z.clone().requires_grad_(True)
        value, log_det = transform(x)
        torch.testing.assert_close(value, z)
        expected = sign * dim * torch.log1p(beta / alpha).squeeze(-1)
        torch.testing.assert_close(log_det, expected)
        gradient = torch.autograd.grad(value.sum() + log_det.sum(), [x, layer.raw])
        torch.testing.assert_close(gradient[0], (1 + beta / alpha) ** sign * torch.ones_like(z))
        assert gradient[1].isfinite().all()
    layer.raw.data[-1] = 0
    assert (layer(points(20, dim))[0] - points(20, dim)).abs().max() < 1e-15


def test_the_way_back_to_near_a_sharp_center_loses_nothing_to_cancellation() -> None:
    """There R is a thousandth of beta's, and (p + q) / 2 would be a difference of equals."""
    layer = Radial(2)
    layer.raw.data = torch.tensor([0.0, 0.0, -1e3, 30.0])
    x = torch.tensor([[6e-5, 8e-5], [6e-4, 8e-4]])
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=1e-5, atol=0)


@pytest.mark.parametrize("spread", [0.3, 30.0])
@pytest.mark.parametrize("units", [2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sylvester_layer_is_what_its_variant_says(
    variant: str, units: int, spread: float
) -> None:
    """B^T A^T is triangular with the diagonal r s, smaller than 1; Q has orthonormal columns."""
    if variant == "triangular":
        units = 3
    layer = Sylvester(3, units, variant=variant).double()
    layer.raw.data += spread * torch.randn_like(layer.raw)
    a, b, _, d = (value.detach()[0] for value in layer.given(None))
    assert a.shape == (3, units)
    torch.testing.assert_close((b @ a).triu(), d.diag(), rtol=0, atol=1e-12 * (1 + spread**2))
    assert d.abs().max() <= LARGEST**2
    # Q and R are the factors of B = Q R, up to the signs of R's diagonal, which are those of r
    q, r = torch.linalg.qr(b.mT)
    signs = (r.diagonal() * layer.raw.data[: units**2].reshape(units, units).diagonal()).sign()
    lower = signs[:, None] * q.mT @ a  # S^T
    torch.testing.assert_close(lower.triu(1), torch.zeros_like(lower), rtol=0, atol=1e-9)
    s = LARGEST * layer.raw.data[units**2 : units**2 + units].tanh()
    torch.testing.assert_close(lower.diagonal(), s, rtol=0, atol=1e-9)


def test_gram_and_schmidt_go_from_column_to_column_without_a_jump() -> None:
    matrix = points(4, 3)
    columns: list[Tensor] = []
    for column in matrix.unbind(-1):
        for other in columns:
            column = column - (other @ column) * other
        columns.append(column / column.norm())
    torch.testing.assert_close(gram_schmidt(matrix), torch.stack(columns, dim=-1))
    near = matrix.clone()
    near[0, 0], matrix[0, 0] = 1e-9, -1e-9
    torch.testing.assert_close(gram_schmidt(matrix), gram_schmidt(near), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", [Planar, Radial])
def test_one_vector_for_all_points_or_one_for_each(kind: type[Amortised]) -> None:
    """With a context each point is moved as by a layer with that context's parameters."""
    torch.manual_seed(0)
    layer, x, context = kind(3, 2).double(), points(5, 3), points(5, 2)
    layer.slopes.data.normal_()
    u, log_det = layer(x, context)
    for i in range(5):
        one = kind(3).double()
        one.raw.data = layer.raw.data + layer.slopes.data @ context[i]
        for value, expected in zip(one(x[i : i + 1]), (u[i], log_det[i]), strict=True):
            torch.testing.assert_close(value[0], expected)


def test_a_stack_leaves_the_layers_that_it_is_made_of_as_they_were() -> None:
    layers = [Planar(2, 1) for _ in range(3)]
    stack = AmortisedStack(layers)
    x, context = points(20, 2).float(), points(20, 1).float()
    stack.slopes.data.normal_()
    for i, (layer, handed) in enumerate(zip(layers, stack.layers(), strict=True)):
        assert torch.equal(layer(x, 0 * context)[0], handed(x, 0 * context)[0])
        layer.slopes.data.copy_(stack.slopes[i])
        assert torch.equal(layer(x, context)[0], handed(x, context)[0])


def test_in_two_triangular_layers_every_coordinate_meets_every_other() -> None:
    flow = build_flow("sylvester", 3, num_flows=2, variant="triangular").double()
    jacobian = torch.func.jacrev(lambda x: flow(x)[0])(points(1, 3)[0])
    assert (jacobian != 0).all()
