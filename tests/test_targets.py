"""Every target in the table against quadrature and its own samples."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from flowlab.flows import build_flow
from flowlab.targets import TARGETS, Bimodal, Checkerboard, EightGaussians, Turning, build_target
from flowlab.targets.divergence import by_quadrature

each_target = pytest.mark.parametrize("name", TARGETS)


def cells(low: tuple[float, float], high: tuple[float, float], step: float) -> torch.Tensor:
    """The middles of a grid's cells, whose edges are where a density that jumps has its own."""
    axes = (
        (torch.arange(round((top - bottom) / step), dtype=torch.float64) + 0.5) * step + bottom
        for bottom, top in zip(low, high, strict=True)
    )
    return torch.cartesian_prod(*axes)


# what a square of side 16 does not hold
FAR = {
    "crescent": ((-8.0, -6.0), (8.0, 40.0)),
    **dict.fromkeys(("u2", "u3", "u4"), ((-12.0, -8.0), (12.0, 8.0))),
}


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "funnel"])
def test_density_integrates_to_one_and_gives_the_entropy(name: str) -> None:
    target = TARGETS[name]()
    log_p = target.log_prob(cells(*FAR.get(name, ((-8.0, -8.0), (8.0, 8.0))), 0.04))
    assert log_p.exp().sum().item() * 0.04**2 == pytest.approx(1, abs=1e-6)
    entropy = torch.special.entr(log_p.exp()).sum().item() * 0.04**2  # -p log p, 0 where p is 0
    assert entropy == pytest.approx(target.entropy, abs=1e-4)


def test_the_funnel_integrates_to_one_and_gives_its_entropy() -> None:
    """Over x_1 and z = x_2 / exp(x_1 / 2), as no even grid over both reaches far enough."""
    target, grid = TARGETS["funnel"](), cells((-24.0, -8.0), (24.0, 8.0), 0.05)
    scale = (grid[:, 0] / 2).exp()
    log_p = target.log_prob(torch.stack((grid[:, 0], scale * grid[:, 1]), dim=-1))
    mass = log_p.exp() * scale * 0.05**2
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)
    assert -(mass * log_p).sum().item() == pytest.approx(target.entropy, abs=1e-4)


@each_target
def test_the_quadrature_of_a_divergence_sees_all_of_it(name: str) -> None:
    """Of a wide normal: E[|x|^2] / 2 v + log 2 pi v - entropy, with E[|x|^2] over samples."""
    target, v = TARGETS[name](), 1e4 if name == "funnel" else 1
    kl, error = by_quadrature(
        target, lambda x: -0.5 * x.square().sum(-1) / v - math.log(2 * math.pi * v)
    )
    assert error < 1e-4
    square = target.sample(1_000_000, torch.Generator().manual_seed(4)).double().square().sum(-1)
    expected = square.mean() / 2 / v + math.log(2 * math.pi * v) - target.entropy
    assert abs(kl - expected) < 5 * square.std() / 2 / v / math.sqrt(len(square)) + 1e-4


@each_target
def test_its_middle_and_its_surroundings_fit_into_the_pictures(name: str) -> None:
    target = TARGETS[name]()
    samples = target.sample(10_000, torch.Generator().manual_seed(5))
    outside = (samples.abs().amax(-1) > target.extent).float().mean()
    assert outside <= {"funnel": 0.1, "crescent": 0.01, "sine": 2e-3}.get(name, 0)
    assert samples.abs().max() > 0.6 * target.extent
    for mode in getattr(target, "modes", ()):
        assert target.log_prob(mode) > target.log_prob(mode + 0.1)


@each_target
def test_samples_are_spread_as_the_density_says(name: str) -> None:
    """Counts in squares of side 1/2, chi-squared: each fails by chance once in 10^6.

    A square's mass is the sum over 10 x 10 cells in it; all outside counts as one, and so do all
    squares in which fewer than five points are expected.
    """
    target, n = TARGETS[name](), 100_000
    side = math.ceil(target.extent)
    x = cells((-side, -side), (side, side), 0.05)
    mass = target.log_prob(x).exp().reshape(4 * side, 10, 4 * side, 10).sum((1, 3)) * 0.05**2
    samples = target.sample(n, torch.Generator().manual_seed(8)).double()
    index = (2 * (samples + side)).floor().long()
    index = index[((index >= 0) & (index < 4 * side)).all(-1)]
    counts = torch.bincount(4 * side * index[:, 0] + index[:, 1], minlength=16 * side**2)
    expected, counts = n * mass.flatten(), counts.double()
    often = expected >= 5
    observed = torch.cat((counts[often], n - counts[often].sum(0, keepdim=True)))
    expected = torch.cat((expected[often], n - expected[often].sum(0, keepdim=True)))
    kept = expected >= 5  # nothing is expected outside a board, and rounding may make it less
    statistic = ((observed - expected).square() / expected)[kept].sum()
    assert stats.chi2.sf(float(statistic), int(kept.sum()) - 1) > 1e-6
    assert observed[~kept].sum() < 30


@each_target
def test_samples_agree_with_the_density(name: str) -> None:
    """Mean log-density and its spread over samples, 5 standard errors: fails 6 times in 10^7."""
    target = TARGETS[name]()
    log_p = target.log_prob(target.sample(100_000, torch.Generator().manual_seed(0))).double()
    assert abs(log_p.mean() + target.entropy) < 5 * log_p.std() / math.sqrt(len(log_p)) + 1e-6


@each_target
def test_same_generator_same_samples_and_any_batch_shape(name: str) -> None:
    target = TARGETS[name]()
    first, second = (target.sample(10, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (10, target.dim)
    assert target.log_prob(first.reshape(2, 5, target.dim)).shape == (2, 5)
    assert target.log_prob(first[0]).shape == ()
    assert target.log_prob(first.double()).dtype == torch.float64


def test_bimodal_is_the_mixture_that_it_says() -> None:
    target = Bimodal()
    x = torch.linspace(-3, 3, 40, dtype=torch.float64).reshape(20, 2)
    normals = [
        torch.distributions.MultivariateNormal(
            torch.full((2,), center, dtype=torch.float64), 0.2 * torch.eye(2, dtype=torch.float64)
        )
        for center in (1.5, -1.5)
    ]
    expected = torch.stack([normal.log_prob(x).exp() for normal in normals]).mean(0).log()
    torch.testing.assert_close(target.log_prob(x), expected, rtol=0, atol=1e-6)
    samples = target.sample(100_000, torch.Generator().manual_seed(2)).numpy()
    np.testing.assert_allclose(samples.mean(0), [0, 0], atol=5 * 1.6 / math.sqrt(100_000))
    # Var = v + 1.5^2 in each coordinate, covariance 1.5^2; 5 standard errors are below 0.04
    np.testing.assert_allclose(np.cov(samples.T), [[2.45, 2.25], [2.25, 2.45]], atol=0.04)


def test_the_spread_of_bimodal_samples_is_the_one_of_its_density() -> None:
    """Squares about the nearer mode: chi-squared, fails by chance twice in 10^6.

    The modes are 9.5 standard deviations apart, so that the nearer one is the right one but once in
    10^6. A variance that is one percent off is 14 standard errors off.
    """
    n = 2_000_000
    samples = Bimodal().sample(n, torch.Generator().manual_seed(3)).double()
    center = torch.where(samples.sum(1, keepdim=True) > 0, 1.5, -1.5)
    for squares, freedom in (
        ((samples - center).square().sum(), 2 * n),
        ((samples[:, 0] - samples[:, 1]).square().sum() / 2, n),  # across the line of the modes
    ):
        p = stats.chi2.cdf(float(squares) / 0.2, freedom)
        assert 0.5e-6 < p < 1 - 0.5e-6


def test_eight_gaussians_is_the_mixture_that_it_says() -> None:
    x = torch.linspace(-3, 3, 40, dtype=torch.float64).reshape(20, 2)
    total = torch.zeros(20, dtype=torch.float64)
    for k in range(8):
        z = 2.5 * np.exp(0.25j * np.pi * k)
        mean = torch.tensor([z.real, z.imag], dtype=torch.float64)
        total += torch.distributions.Normal(mean, 0.3).log_prob(x).sum(-1).exp() / 8
    torch.testing.assert_close(EightGaussians().log_prob(x), total.log(), rtol=0, atol=1e-5)


def test_eight_gaussians_samples_are_spread_as_its_density() -> None:
    """Counts of modes and squares about the nearest: chi-squared, fail by chance in 10^6 runs.

    The modes are 6.4 deviations apart: one point in 1,500 is nearer to another than its own, which
    makes the squares smaller by a part in 10^3 at most; 10^5 points have an error of 3 in 10^3.
    """
    target, n = EightGaussians(), 100_000
    samples = target.sample(n, torch.Generator().manual_seed(6))
    square, nearest = (samples[:, None] - target.modes).square().sum(-1).min(-1)
    assert stats.chisquare(nearest.bincount(minlength=8).numpy()).pvalue > 1e-6
    assert 1e-6 < stats.chi2.cdf(float(square.double().sum()) / 0.09, 2 * n) < 1 - 1e-6


def test_the_checkerboard_has_alternate_cells_with_sharp_edges() -> None:
    target = Checkerboard()
    middles = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    black = target.log_prob(torch.cartesian_prod(middles, middles)).exp().reshape(4, 4)
    assert torch.equal(black > 0, torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]] * 2).bool())
    torch.testing.assert_close(black[black > 0], torch.full((8,), 1 / 32))
    for inside, outside in (((-3.99, -2.01), (-4.01, -2.01)), ((3.99, 3.99), (3.99, 4.01))):
        assert target.log_prob(torch.tensor(inside)).exp() == pytest.approx(1 / 32)
        assert target.log_prob(torch.tensor(outside)) == -math.inf


def test_points_of_the_checkerboard_fill_its_cells_evenly_to_the_edge() -> None:
    """Kolmogorov-Smirnov and chi-squared, fail by chance three times in 10^6."""
    samples = Checkerboard().sample(100_000, torch.Generator().manual_seed(7))
    cell = (samples / 2).floor()
    counts = (4 * cell[:, 0] + cell[:, 1] + 10).long().bincount(minlength=16)
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > 1e-6
    for within in (samples / 2 - cell).unbind(-1):
        assert stats.kstest(within.numpy(), "uniform").pvalue > 1e-6


def test_no_point_of_the_checkerboard_is_rounded_over_an_edge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Checkerboard()
    for extreme in (0.0, 1 - 2**-24):  # of torch.rand
        monkeypatch.setattr(torch, "rand", lambda *shape, x=extreme, **_: torch.full(shape, x))
        assert target.log_prob(target.sample(1000)).isfinite().all()


@pytest.mark.parametrize("name", ["gaussian", "mixture", "funnel"])
@pytest.mark.parametrize("dim", [1, 2, 3, 20])
def test_of_any_dimension_samples_agree_with_density_and_entropy(name: str, dim: int) -> None:
    """Mean log-density over samples, 5 standard errors: each fails 6 times in 10^7."""
    if (name, dim) == ("funnel", 1):
        with pytest.raises(ValueError, match="dim=1: a funnel needs at least 2"):
            build_target(name, dim)
        return
    target = TARGETS[name](dim)
    x = target.sample(200_000, torch.Generator().manual_seed(0)).double()
    assert x.shape == (200_000, target.dim) == (200_000, dim)
    log_p = target.log_prob(x)
    assert abs(log_p.mean() + target.entropy) < 5 * log_p.std() / math.sqrt(len(log_p))


def test_of_any_dimension_densities_are_the_ones_that_they_say() -> None:
    """Against scipy's, point by point."""
    x = np.random.default_rng(0).normal(size=(20, 4))
    gaussian = stats.multivariate_normal(np.zeros(4), 0.2 * np.eye(4) + 0.8).logpdf(x)
    diagonal = np.array([1, -1, 1, -1])
    parts = [
        weight * stats.multivariate_normal(place * diagonal, 0.16 * np.eye(4)).pdf(x)
        for weight, place in ((0.5, -2), (0.3, 0), (0.2, 2))
    ]
    scale = np.exp(x[:, :1] / 2)
    funnel = stats.norm(0, 3).logpdf(x[:, 0]) + stats.norm(0, scale).logpdf(x[:, 1:]).sum(1)
    for name, expected in {
        "gaussian": gaussian,
        "mixture": np.log(np.sum(parts, axis=0)),
        "funnel": funnel,
    }.items():
        found = TARGETS[name](4).log_prob(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["bimodal", "two_moons", "u3", "turning"])
def test_a_target_of_one_dimension_takes_no_other(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^dim=3: {name} has 2; expected null; .*funnel, gauss"):
        build_target(name, 3)


@pytest.mark.parametrize(
    ("name", "log_z"), [("u1", 1.87750), ("u2", 2.62532), ("u3", 3.18493), ("u4", 3.25393)]
)
def test_the_energies_are_those_of_the_paper_in_a_soft_box(name: str, log_z: float) -> None:
    """Point by point, of numpy's; and log Z, of an independent trapezoid rule at another step."""
    target = TARGETS[name]()
    x = np.random.default_rng(0).uniform(-9, 9, size=(200, 2))
    z1, z2 = x.T
    w1 = np.sin(np.pi * z1 / 2)
    w2 = 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
    w3 = 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    terms = {
        "u1": [(((z1 - 2) / 0.6) ** 2) / 2, (((z1 + 2) / 0.6) ** 2) / 2],
        "u2": [((z2 - w1) / 0.4) ** 2 / 2],
        "u3": [((z2 - w1) / 0.35) ** 2 / 2, ((z2 - w1 + w2) / 0.35) ** 2 / 2],
        "u4": [((z2 - w1) / 0.4) ** 2 / 2, ((z2 - w1 + w3) / 0.35) ** 2 / 2],
    }[name]
    energy = -logsumexp([-term for term in terms], axis=0)
    if name == "u1":
        energy = energy + ((np.hypot(z1, z2) - 2) / 0.4) ** 2 / 2
    energy = energy + (np.maximum(np.abs(x) - 6, 0) ** 2).sum(1)
    points = torch.from_numpy(x)
    np.testing.assert_allclose(target.energy(points).numpy(), energy, rtol=1e-6, atol=1e-5)
    assert target.log_z == pytest.approx(log_z, abs=1e-5)
    torch.testing.assert_close(target.log_prob(points), -target.energy(points) - target.log_z)


def test_a_proposal_lies_above_its_energy() -> None:
    """Else samples were not exact: the excess, which decides what is kept, is never negative."""
    x = cells((-10.0, -10.0), (10.0, 10.0), 0.1)
    for name in ("u1", "u2", "u3", "u4"):
        assert TARGETS[name]().excess(x).min() >= 0


def test_nothing_is_computed_when_targets_are_made() -> None:
    for name, kind in TARGETS.items():
        lazy = {"entropy", "_integrals"} & vars(kind()).keys()
        assert not lazy, name


@pytest.mark.parametrize("angle", [-1.3, 0.0, 0.5])
def test_turning_is_the_mixture_whose_means_turn(angle: float) -> None:
    target, c = Turning(), torch.tensor([angle], dtype=torch.float64)
    x = torch.linspace(-3, 3, 40, dtype=torch.float64).reshape(20, 2)
    radius, start = math.hypot(1.5, 1.5), math.pi / 4
    normals = [
        torch.distributions.MultivariateNormal(
            torch.tensor([math.cos(a), math.sin(a)], dtype=torch.float64) * radius,
            0.2 * torch.eye(2, dtype=torch.float64),
        )
        for a in (start + angle, start + angle + math.pi)
    ]
    expected = torch.stack([normal.log_prob(x).exp() for normal in normals]).mean(0).log()
    torch.testing.assert_close(target.log_prob(x, c), expected, rtol=0, atol=1e-6)
    axis = torch.arange(-8, 8, 0.02, dtype=torch.float64)
    log_p = target.log_prob(torch.cartesian_prod(axis, axis), c)
    assert log_p.exp().sum().item() * 0.02**2 == pytest.approx(1, abs=1e-6)
    entropy = -(log_p.exp() * log_p).sum().item() * 0.02**2
    assert entropy == pytest.approx(target.entropy, abs=1e-4)
    samples = target.sample(100_000, c.float(), torch.Generator().manual_seed(2)).numpy()
    mean = radius * np.array([math.cos(start + angle), math.sin(start + angle)])
    # Cov = v I + m m^T; 5 standard errors are below 0.1
    np.testing.assert_allclose(np.cov(samples.T), 0.2 * np.eye(2) + np.outer(mean, mean), atol=0.1)


def test_turning_draws_a_point_for_each_of_its_contexts() -> None:
    """Mean log-density and its spread over samples, 5 standard errors: fails 6 times in 10^7."""
    target, g = Turning(), torch.Generator().manual_seed(0)
    contexts = target.sample_context(100_000, g)
    assert contexts.shape == (100_000, target.context)
    assert contexts.abs().max() < math.pi / 2
    assert abs(contexts.mean()) < 5 * math.pi / math.sqrt(12 * len(contexts))
    (x,) = target.sample(1, contexts, g)
    log_p = target.log_prob(x, contexts)
    assert abs(log_p.mean() + target.entropy) < 5 * log_p.std() / math.sqrt(len(log_p))
    assert target.sample(3, contexts[:10].reshape(5, 2, 1)).shape == (3, 5, 2, 2)


def test_a_conditional_flow_learns_it_and_one_without_context_cannot() -> None:
    """Its KL given the context goes below what no density without one can reach.

    That is the information that x has of c: over all angles x is spread over a ring, whose entropy
    is above the target's by more than 1.2 nats.
    """
    target, g = Turning(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    flow = build_flow("coupling", 2, context=1, num_flows=6, num_hidden=32)
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for _ in range(300):
        contexts = target.sample_context(256, g)
        (x,) = target.sample(1, contexts, g)
        optimizer.zero_grad()
        (-flow.log_prob(x, contexts).mean()).backward()
        optimizer.step()
    contexts = target.sample_context(10_000, g)
    (x,) = target.sample(1, contexts, g)
    with torch.no_grad():
        kl = (target.log_prob(x, contexts) - flow.log_prob(x, contexts)).mean()
        shuffled = (target.log_prob(x, contexts) - flow.log_prob(x, contexts.flip(0))).mean()
    assert 0 < kl < 0.5
    assert shuffled > 1
