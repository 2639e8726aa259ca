"""The KL to the truth, against closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from flowlab.targets import Bimodal, Turning
from flowlab.targets.divergence import (
    BATCH,
    ENOUGH,
    MOST,
    by_quadrature,
    by_sampling,
    conditional_kl_divergence,
)
from flowlab.targets.divergence import kl_divergence as kl

nats = torch.tensor


class Gaussian:
    """N(mean, L L^T), as a target."""

    extent = 6.0

    def __init__(self, dim: int):
        self.dim = dim
        tril = 0.4 * torch.eye(dim, dtype=torch.float64)
        if dim > 1:
            tril[1, 0] = 0.3
        self.law = MultivariateNormal(torch.full((dim,), 0.5).double(), scale_tril=tril)
        self.entropy = float(self.law.entropy())

    def log_prob(self, x: Tensor) -> Tensor:
        return self.law.log_prob(x)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        noise = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        return self.law.loc + noise @ self.law.scale_tril.T


class Board:
    """Uniform on the cells of side 1 of a board of 4 x 4 whose colour is black."""

    dim, extent, entropy = 2, 4.0, math.log(8)

    def log_prob(self, x: Tensor) -> Tensor:
        black = (x.abs() < 2).all(-1) & (x.floor().sum(-1) % 2 == 0)
        return torch.where(black, -self.entropy, -math.inf)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        raise AssertionError


def standard_normal(x: Tensor) -> Tensor:
    return Normal(0, 1).log_prob(x).sum(-1)


def no_points(n: int) -> Tensor:
    raise AssertionError("quadrature draws none")


def drawn(target: Gaussian, seed: int = 0) -> Callable[[int], Tensor]:
    generator = Generator().manual_seed(seed)
    return lambda n: target.sample(n, generator)


@pytest.mark.parametrize("dim", [1, 2])
def test_of_gaussians_it_is_the_closed_form(dim: int) -> None:
    p = Gaussian(dim)
    found = kl(p, standard_normal, no_points)
    zero = torch.zeros(dim).double()
    exact = kl_divergence(p.law, MultivariateNormal(zero, torch.eye(dim).double()))
    torch.testing.assert_close(found.kl, exact, atol=1e-6, rtol=0)
    assert found.error < 1e-6


def test_of_the_truth_itself_it_is_zero() -> None:
    p = Bimodal()
    assert abs(kl(p, p.log_prob, no_points).kl) < 1e-12


def test_a_density_with_jumps_on_the_grid_is_as_exact() -> None:
    """-E[log q] of a standard normal is log 2 pi + E[|x|^2] / 2; a cell's E[x^2] is by hand."""
    found = kl(Board(), standard_normal, no_points)
    second_moment = 2 * (1 / 3 + 7 / 3) / 2  # of both coordinates; cells [0, 1] and [1, 2] alike
    exact = math.log(2 * math.pi) + second_moment / 2 - Board.entropy
    torch.testing.assert_close(found.kl, nats(exact).double(), atol=1e-4, rtol=0)
    assert found.error < 1e-4


def test_mass_that_the_grid_misses_is_owned_up_to() -> None:
    p = Gaussian(2)
    p.extent = 0.5  # the mean is at its corner: a quadrant is inside, at a correlation of 0.6
    outside = 1 - (1 / 4 + math.asin(0.6) / (2 * math.pi))
    assert by_quadrature(p, standard_normal).error > outside


def test_grids_are_refined_until_two_agree() -> None:
    """A model with a ripple that the first grid cannot tell from a constant."""
    p, cells = Gaussian(1), []

    def rippled(x: Tensor) -> Tensor:
        cells.append(round(1 / float(x[1, 0] - x[0, 0])))
        return standard_normal(x) + torch.cos(2 * math.pi * 20 * x).sum(-1)

    found = by_quadrature(p, rippled)
    assert cells == [20, 30, 40]
    exact = kl(p, standard_normal, no_points).kl  # the ripple's mean under p is e^-1263
    torch.testing.assert_close(found.kl, exact, atol=1e-4, rtol=0)


def test_beyond_the_plane_it_is_a_mean_over_fresh_points_with_its_error() -> None:
    """Within 4 standard errors: fails by chance 6 times in 10^5."""
    p = Gaussian(5)
    found = kl(p, standard_normal, drawn(p))
    exact = kl_divergence(p.law, MultivariateNormal(torch.zeros(5).double(), torch.eye(5).double()))
    assert found.error < 1e-3 or found.error == pytest.approx(1e-3, rel=0.5)
    assert abs(found.kl - exact) < 4 * found.error


def test_the_error_of_sampling_is_the_spread_between_samples() -> None:
    """Of 20 samples: their standard deviation has a relative error of 16 %; 4 of these allowed."""
    p = Gaussian(3)
    found = [by_sampling(p, lambda x: 0.1 * standard_normal(x), drawn(p, s)) for s in range(20)]
    spread = torch.stack([kl for kl, _ in found]).std()
    assert float(spread / found[0].error) == pytest.approx(1, abs=0.64)


def test_there_are_as_many_points_as_it_takes() -> None:
    p, counts = Gaussian(3), []

    def drawing(n: int) -> Tensor:
        counts.append(n)
        return p.sample(n, generator)

    generator = Generator().manual_seed(0)
    assert float(by_sampling(p, lambda x: p.log_prob(x) - 1, drawing).kl) == pytest.approx(1)
    assert counts == [BATCH]  # nothing varies
    found = by_sampling(p, lambda x: 10 * standard_normal(x), drawing)
    assert sum(counts[1:]) == MOST or found.error < ENOUGH
    assert len(counts) > 2


def test_given_a_context_it_is_the_mean_over_contexts() -> None:
    """A model that knows the angle but for a part of it: by brute force over many contexts."""
    p = Turning()

    def log_q(x: Tensor, context: Tensor) -> Tensor:
        return p.log_prob(x, 0.8 * context)

    found = conditional_kl_divergence(p, log_q)
    assert abs(conditional_kl_divergence(p, p.log_prob).kl) < 1e-12
    g = Generator().manual_seed(0)
    contexts = p.sample_context(400_000, g).double()
    (x,) = p.sample(1, contexts.float(), g)
    ratio = p.log_prob(x.double(), contexts) - log_q(x.double(), contexts)
    error = float(ratio.std()) / 400_000**0.5
    assert float(found.kl) == pytest.approx(float(ratio.mean()), abs=4 * error + float(found.error))
    assert found.error < 0.02 * found.kl
