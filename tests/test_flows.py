"""The mathematics that every flow keeps: against autograd, quadrature and statistics."""

import math
from collections.abc import Callable

import pytest
import torch
from contract import (
    CASES,
    DOUBLE,
    PROMISES,
    SHAPES,
    Shape,
    build,
    close_to,
    context_of,
    each_precision,
    each_shape,
    make,
    points,
    promise_of,
    small,
    trained,
    turned,
)
from scipy import stats
from torch import Tensor

from flowlab.flows import FLOWS, Flow

Map = Callable[..., tuple[Tensor, Tensor]]

PLANE = [case for case, shape in SHAPES if shape == 2]
WEIGHTS: dict[str, Callable[[str], Flow]] = {
    "random": lambda case: make(case, 2),
    "trained": trained,
}
in_the_plane = pytest.mark.parametrize(
    ("weights", "case"),
    [
        *(pytest.param("random", case) for case in PLANE),
        *(
            pytest.param("trained", *turned(case).values, marks=turned(case).marks)
            for case in PLANE
        ),
    ],
)


def test_every_family_has_its_line_in_the_contract() -> None:
    assert list(PROMISES) == list(FLOWS), "one line in PROMISES of tests/contract.py for each"


@each_precision
def test_there_and_back_both_ways_and_log_dets_cancel(
    case: str, shape: Shape, dtype: torch.dtype
) -> None:
    flow, x = make(case, shape, dtype), points(50, shape, dtype)
    c, close = context_of(flow, 50, dtype=dtype), close_to(case, dtype)
    y, log_det = flow.inverse(x.flatten(1), c)
    forth, log_det_forth = flow(y, c)
    close(forth, x.flatten(1))
    close(log_det_forth, -log_det)
    u, log_det = flow(x, c)
    back, log_det_back = flow.inverse(u, c)
    if promise_of(case).steep:
        close(flow(back, c)[0], u)
    else:
        close(back, x)
        close(log_det_back, -log_det)


def jacobian_of(transform: Map, x: Tensor, c: Tensor | None) -> Tensor:
    """The Jacobian at each point: (N, *shape) -> (N, D, D)."""

    def one(x: Tensor, c: Tensor | None) -> Tensor:
        return transform(x, c)[0].flatten()

    each = torch.func.vmap(torch.func.jacrev(one), in_dims=(0, None if c is None else 0))
    return each(x, c).flatten(2)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@each_precision
def test_log_det_is_that_of_the_jacobian(
    case: str, shape: Shape, dtype: torch.dtype, direction: str
) -> None:
    flow, x = make(case, shape, dtype), points(6, shape, dtype)
    x = x if direction == "forward" else x.flatten(1)
    transform, c = getattr(flow, direction), context_of(flow, 6, dtype=dtype)
    expected = torch.linalg.slogdet(jacobian_of(transform, x, c).double()).logabsdet
    close_to(case, dtype)(transform(x, c)[1].double(), expected)


def box_of(flow: Flow, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """Middle and half-width of a box half as large again as that of 10,000 samples."""
    x = flow.sample(10_000, c, torch.Generator().manual_seed(8))
    low, high = x.amin(0), x.amax(0)
    return (low + high) / 2, 0.75 * (high - low)


@in_the_plane
def test_density_integrates_to_one(case: str, weights: str) -> None:
    flow, n = WEIGHTS[weights](case), promise_of(case).grid
    c = context_of(flow)
    middle, half = box_of(flow, c)
    axis = (torch.arange(n, dtype=DOUBLE) + 0.5) * 2 / n - 1
    with torch.no_grad():
        p = flow.log_prob(middle + half * torch.cartesian_prod(axis, axis), c).exp()
    cell = float(half.prod()) * (2 / n) ** 2
    assert p.sum().item() * cell == pytest.approx(1, abs=1e-4)


@in_the_plane
def test_samples_agree_with_the_density_cell_by_cell(case: str, weights: str) -> None:
    """A chi-squared test over the cells of a grid, fails by chance once in 10^6 runs."""
    flow, n, sub = WEIGHTS[weights](case), 20_000, 12
    c, edges = context_of(flow), torch.linspace(-3, 3, 13, dtype=DOUBLE)
    fine = torch.linspace(-3, 3, 12 * sub + 1, dtype=DOUBLE)
    middles = (fine[1:] + fine[:-1]) / 2
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(middles, middles), c).exp()
    cells = density.reshape(12, sub, 12, sub).sum(dim=(1, 3)) * (6 / (12 * sub)) ** 2
    samples = flow.sample(n, c, torch.Generator().manual_seed(2))
    counts = torch.histogramdd(samples, [edges, edges]).hist
    observed = torch.cat((counts.flatten(), n - counts.sum()[None]))
    expected = n * torch.cat((cells.flatten(), 1 - cells.sum()[None]))
    common = expected > 5
    statistic = ((observed - expected) ** 2 / expected)[common].sum()
    if not common.all():  # the others together
        statistic += (observed - expected)[~common].sum() ** 2 / expected[~common].sum()
    df = int(common.sum()) - int(common.all())
    assert stats.chi2.sf(statistic.item(), df) > 1e-6


@each_shape
def test_samples_agree_with_the_density_in_any_dimension(case: str, shape: Shape) -> None:
    """E[q(x) / p(x)] = 1 over samples from p, for any density q; 5 standard errors: 6 in 10^7."""
    flow = make(case, shape, part=1 / 3)
    c = context_of(flow)
    with torch.no_grad():
        x = flow.sample(10_000, c, torch.Generator().manual_seed(3))
        q = torch.distributions.Normal(x.mean(0), 0.8 * x.std(0))
        ratio = (q.log_prob(x).flatten(1).sum(1) - flow.log_prob(x, c)).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))
    assert ratio.std() < 10  # or the test would see nothing


@each_precision
def test_a_new_flow_is_as_near_to_the_identity_as_it_promises(
    case: str, shape: Shape, dtype: torch.dtype
) -> None:
    flow, x = build(case, shape, dtype), points(100, shape, dtype)
    c, bound = context_of(flow, 100, dtype=dtype), promise_of(case).start
    for value, log_det in (flow(x, c), flow.inverse(x.flatten(1), c)):
        assert (value - x.reshape(value.shape)).abs().max() <= bound
        assert log_det.abs().max() <= flow.dim * bound


@each_shape
def test_every_coordinate_gets_moved(case: str, shape: Shape) -> None:
    flow, x = make(case, shape), points(50, shape)
    assert ((flow(x, context_of(flow, 50))[0] - x.flatten(1)).abs().amax(0) > 1e-3).all()


@each_shape
def test_every_parameter_gets_a_gradient(case: str, shape: Shape) -> None:
    flow, x = make(case, shape), points(100, shape)
    value, log_det = flow(x, context_of(flow, 100))
    (value.square().sum(-1) - log_det).mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or not parameter.numel(), name


@each_precision
def test_values_and_gradients_are_finite_far_out(
    case: str, shape: Shape, dtype: torch.dtype
) -> None:
    """With random weights three times as wide."""
    flow, x = make(case, shape, dtype), 1e6 * points(20, shape, dtype)
    for parameter in flow.parameters():
        parameter.data *= 3
    c = context_of(flow, 20, dtype=dtype)
    for far in (x, 1e6 * x.sign()):
        for value, log_det in (flow(far, c), flow.inverse(far.flatten(1), c)):
            assert value.isfinite().all()
            assert log_det.isfinite().all()
        log_p = flow.log_prob(far.requires_grad_(), c)
        assert log_p.isfinite().all()
        for gradient in torch.autograd.grad(log_p.mean(), [far, *flow.parameters()]):
            assert gradient.isfinite().all()


@each_precision
def test_the_same_generator_gives_the_same_samples(
    case: str, shape: Shape, dtype: torch.dtype
) -> None:
    flow = make(case, shape, dtype)
    c = context_of(flow, dtype=dtype)
    first, second, other = (
        flow.sample(10, c, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.dtype == dtype


@pytest.mark.parametrize("case", [*map(turned, CASES)])
def test_what_training_learned_is_better_than_the_start(case: str) -> None:
    """50 steps on two modes: by likelihood either way round."""
    flow, x = trained(case), points(500, small(case)) * math.sqrt(0.2) + 1.5
    c = context_of(flow, 500)
    with torch.no_grad():
        assert flow.log_prob(x, c).mean() > build(case, small(case)).log_prob(x, c).mean() + 0.2
