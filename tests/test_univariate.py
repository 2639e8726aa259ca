"""The maps of a number by themselves, where those of other libraries are known to break."""

import math

import pytest
import torch
from torch import Tensor

from flowlab.flows.univariate import (
    FLATTEST,
    Affine,
    DeepSigmoid,
    RationalQuadratic,
    Univariate,
)

SINGLE, DOUBLE = torch.float32, torch.float64
MAPS = [Affine(2.0), RationalQuadratic(5, 3.0), DeepSigmoid(4)]
each_map = pytest.mark.parametrize("map_", MAPS, ids=lambda m: type(m).__name__)
each_dtype = pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])


def drawn(map_: Univariate, n: int, scale: float, dtype: torch.dtype = DOUBLE) -> Tensor:
    """Parameters of n points of one coordinate."""
    generator = torch.Generator().manual_seed(0)
    return (scale * torch.randn(n, map_.num_parameters, generator=generator)).to(dtype)


def alike(map_: Univariate, x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The map of points (N,), all with the same random parameters."""
    parameters = drawn(map_, 1, scale, x.dtype).expand(len(x), -1)
    y, log_slope = map_.forward(x.unsqueeze(-1), parameters)
    return y.squeeze(-1), log_slope.squeeze(-1)


@each_map
def test_slopes_sum_up_to_the_climb(map_: Univariate) -> None:
    """The map by its slope: the integral from a to x of dy / dx, by the midpoint rule."""
    ends = torch.linspace(-4, 4, 4001, dtype=DOUBLE)
    y, _ = alike(map_, ends, 1.0)
    _, log_slope = alike(map_, (ends[1:] + ends[:-1]) / 2, 1.0)
    climb = (log_slope.exp() * 8 / 4000).cumsum(0)
    torch.testing.assert_close(climb, y[1:] - y[0], rtol=0, atol=1e-3)
    assert (y.diff() > 0).all()


@each_map
def test_gradients_of_the_inverse_are_those_of_central_differences(map_: Univariate) -> None:
    y = torch.tensor([[-2.5], [0.1], [1.4]], dtype=DOUBLE, requires_grad=True)
    parameters = drawn(map_, 3, 0.5).requires_grad_()
    weights = torch.tensor([[1.0], [1.5], [2.0]], dtype=DOUBLE)

    def value(y: Tensor, parameters: Tensor) -> Tensor:
        x, log_slope = map_.inverse(y, parameters)
        return (weights * (x + log_slope.square())).sum()

    assert torch.autograd.gradcheck(value, (y, parameters), atol=1e-5, rtol=1e-4)


@each_map
def test_coordinates_have_parameters_of_their_own(map_: Univariate) -> None:
    """The first of each coordinate stand before the second of each."""
    x = torch.linspace(-2, 2, 10, dtype=DOUBLE).reshape(5, 2)
    first, second = drawn(map_, 10, 1.0).split(5)
    together = map_.forward(x, torch.stack((first, second), dim=-1).flatten(1))
    for i, parameters in enumerate((first, second)):
        alone = map_.forward(x[:, i : i + 1], parameters)
        for value, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(value[:, i : i + 1], expected)


@each_dtype
def test_an_affine_map_stays_within_its_bound_and_learns_beyond_it(dtype: torch.dtype) -> None:
    """Where a hard clamp has no gradient at all and, just before it, one that explodes."""
    r = torch.linspace(-10, 10, 101, dtype=dtype, requires_grad=True)
    parameters = torch.stack((r, torch.zeros_like(r)), dim=-1)
    _, log_slope = Affine(2.0).forward(torch.ones(101, 1, dtype=dtype), parameters)
    assert log_slope.abs().max() < 2
    (gradient,) = torch.autograd.grad(log_slope.sum(), r)
    assert (gradient > 0).all()
    assert (gradient <= 1).all()


@each_dtype
@pytest.mark.parametrize("num_bins", [1, 3, 8, 50])
def test_a_spline_of_zeros_is_the_identity(num_bins: int, dtype: torch.dtype) -> None:
    """Of which a softplus that is not moved makes slopes of log 2 at the knots: nflows#50."""
    spline, x = RationalQuadratic(num_bins), torch.linspace(-6, 6, 1001, dtype=dtype).unsqueeze(-1)
    parameters = torch.zeros(1001, spline.num_parameters, dtype=dtype)
    for value, log_slope in (spline.forward(x, parameters), spline.inverse(x, parameters)):
        close = {"rtol": 0, "atol": (20 + num_bins) * torch.finfo(dtype).eps}
        torch.testing.assert_close(value, x, **close)
        torch.testing.assert_close(log_slope, torch.zeros_like(x), **close)


@each_dtype
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_a_spline_s_outer_knots_are_its_bounds_to_the_bit(scale: float, dtype: torch.dtype) -> None:
    spline = RationalQuadratic(8, 3.0)
    knots = spline._knots(drawn(spline, 500, scale, dtype)[:, :8].softmax(-1))
    assert (knots[:, 0] == -3).all()
    assert (knots[:, -1] == 3).all()
    assert (knots.diff() > 0.0099 * 6 / 8).all()
    edge = torch.tensor([3.0], dtype=dtype)
    inner = torch.nextafter(edge, torch.zeros_like(edge))
    for x in (edge, -edge, inner, -inner):
        y, _ = alike(spline, x, scale)
        assert (y - x).abs() <= 40 * scale * torch.finfo(dtype).eps


def test_a_spline_has_one_slope_on_both_sides_of_a_knot() -> None:
    spline, tiny = RationalQuadratic(6, 3.0), 1e-9
    knots = spline._knots(drawn(spline, 1, 1.0)[:, :6].softmax(-1))[0]
    left, right = (alike(spline, knots + side, 1.0) for side in (-tiny, tiny))
    for value, other in zip(left, right, strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-5)
    slopes = left[1][1:-1].exp()  # of the inner knots, as the parameters say
    raw = drawn(spline, 1, 1.0)[0, 12:]
    moved = raw + math.log(math.expm1(1 - FLATTEST))
    torch.testing.assert_close(slopes, moved.exp().log1p() + FLATTEST, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "residual"), [(SINGLE, 2e-3), (DOUBLE, 1e-9)])
def test_splines_with_wild_parameters_are_inverted(dtype: torch.dtype, residual: float) -> None:
    """Where nflows finds a discriminant below 0, and zuko gives NaN.

    In float32 the residual is 4e-4; 8e-3 where the root is of the form that cancels.
    """
    spline, n = RationalQuadratic(), 50_000
    parameters = drawn(spline, n, 10.0, dtype).requires_grad_()
    y = torch.linspace(-5.5, 5.5, n, dtype=dtype).unsqueeze(-1).requires_grad_()
    x, log_slope = spline.inverse(y, parameters)
    back, log_slope_back = spline.forward(x, parameters)
    assert (back - y).abs().max() < residual
    assert x.abs().max() <= 5.5
    for value in (log_slope.sum(), log_slope_back.sum(), x.sum()):
        for gradient in torch.autograd.grad(value, (y, parameters), retain_graph=True):
            assert gradient.isfinite().all()
    assert ((log_slope + log_slope_back).abs() < 500 * residual).double().mean() > 0.999


def plain_sigmoids(x: Tensor, parameters: Tensor, count: int) -> Tensor:
    w, a, b = parameters.reshape(len(x), 3, count).unbind(1)
    a, b = (4.6 * (a / 4.6).tanh()).exp(), b + torch.linspace(-2, 2, count, dtype=x.dtype)
    return (w.softmax(-1) * (a * x + b).sigmoid()).sum(-1, keepdim=True).logit()


def test_deep_sigmoids_by_their_formula() -> None:
    map_, x = DeepSigmoid(5), torch.linspace(-4, 4, 200, dtype=DOUBLE).unsqueeze(-1)
    parameters = drawn(map_, 200, 0.7)
    torch.testing.assert_close(map_.forward(x, parameters)[0], plain_sigmoids(x, parameters, 5))


@each_dtype
def test_deep_sigmoids_never_saturate(dtype: torch.dtype) -> None:
    """Far out the least steep sigmoid decides; one that is clipped is flat beyond 14 in float32."""
    map_, far = DeepSigmoid(5), torch.tensor([-1e6, -1e4, 1e4, 1e6], dtype=dtype)
    steepness = drawn(map_, 1, 1.0, dtype)[0, 5:10]
    least = (4.6 * (steepness / 4.6).tanh()).amin()
    y, log_slope = alike(map_, far, 1.0)
    torch.testing.assert_close(log_slope, least.expand(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(y / far, least.exp().expand(4), rtol=5e-3, atol=0)


@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
@each_dtype
def test_deep_sigmoids_are_inverted_wherever_they_come_to(scale: float, dtype: torch.dtype) -> None:
    map_ = DeepSigmoid(16)
    parameters = drawn(map_, 1000, scale, dtype).requires_grad_()
    y = torch.linspace(-1, 1, 1000, dtype=dtype).unsqueeze(-1) ** 9 * 1e6
    x, log_slope = map_.inverse(y, parameters)
    back, _ = map_.forward(x, parameters)
    # what f can make of the last place of x, and of its own terms
    steepest = (4.6 * (parameters[:, 16:32] / 4.6).tanh()).exp().amax(-1, keepdim=True)
    terms = y.abs() + parameters.abs().amax(-1, keepdim=True) + steepest * x.abs()
    if scale < 1e4:  # or the solver's evaluations are too few
        assert ((back - y).abs() <= 10 * torch.finfo(dtype).eps * (1 + terms)).all()
    assert x.isfinite().all()
    for value in (x, log_slope):
        (gradient,) = torch.autograd.grad(value.mean(), parameters, retain_graph=True)
        assert gradient.isfinite().all()


def test_deep_sigmoids_start_with_gradients_of_their_own() -> None:
    """Alike they would stay alike for ever: an affine map in disguise."""
    map_, x = DeepSigmoid(8), torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    parameters = torch.zeros(1, map_.num_parameters, requires_grad=True)
    y, log_slope = map_.forward(x, parameters.expand(100, -1))
    (gradient,) = torch.autograd.grad((y.square() / 2 - log_slope).mean(), parameters)
    for of_one_kind in gradient.reshape(3, 8):
        assert of_one_kind.sort().values.diff().min() > 1e-5
