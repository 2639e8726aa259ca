"""Every target in the table against quadrature and its own samples."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from flowlab.targets import TARGETS, Bimodal

each_target = pytest.mark.parametrize("name", TARGETS)


def grid_log_prob(name: str, limit: float, step: float) -> torch.Tensor:
    target = TARGETS[name]()
    axis = torch.arange(-limit, limit, step, dtype=torch.float64)
    return target.log_prob(torch.cartesian_prod(*[axis] * target.dim).reshape(-1, target.dim))


@each_target
def test_density_integrates_to_one_and_gives_the_entropy(name: str) -> None:
    target = TARGETS[name]()
    log_p = grid_log_prob(name, limit=8, step=0.02)
    cell = 0.02**target.dim
    assert log_p.exp().sum().item() * cell == pytest.approx(1, abs=1e-6)
    assert -(log_p.exp() * log_p).sum().item() * cell == pytest.approx(target.entropy, abs=1e-4)


@each_target
def test_samples_agree_with_the_density(name: str) -> None:
    """Mean log-density and its spread over samples, 5 standard errors: fails 6 times in 10^7."""
    target = TARGETS[name]()
    log_p = target.log_prob(target.sample(100_000, torch.Generator().manual_seed(0))).double()
    assert abs(log_p.mean() + target.entropy) < 5 * log_p.std() / math.sqrt(len(log_p))


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
