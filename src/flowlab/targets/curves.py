"""Densities along curves in the plane: chains of equal Gaussians, so that every figure is exact."""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor

ROWS = 2**14  # points at once, each with its distances to all centers


class Curve:
    """Equally likely Gaussians of one deviation s, with centers c_k, (K, 2), along a curve.

    p(x) = 1/K sum of N(x; c_k, s^2 I)

    With neighbours at most s apart nobody can tell the chain from a curve that is blurred evenly:
    along a straight one the density varies by 2 exp(-2 pi^2), five parts in 10^9 (Poisson's sum).
    """

    dim = 2
    extent = 4.0

    def __init__(self, centers: Tensor, deviation: float):
        self.centers = centers.float()
        self.deviation = deviation

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) -> (...)."""
        parts = torch.split(x.reshape(-1, 2), ROWS)
        return torch.cat([self._log_prob(part) for part in parts]).reshape(x.shape[:-1])

    def _log_prob(self, x: Tensor) -> Tensor:
        centers = self.centers.to(x)
        square = (x[:, :1] - centers[:, 0]).square() + (x[:, 1:] - centers[:, 1]).square()
        log_norm = math.log(len(centers) * 2 * math.pi * self.deviation**2)
        return torch.logsumexp(-0.5 * square / self.deviation**2, dim=-1) - log_norm

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        center = torch.randint(len(self.centers), (n,), generator=generator)
        noise = torch.randn(n, self.dim, generator=generator)
        return self.centers[center] + self.deviation * noise

    @cached_property
    def entropy(self) -> float:
        """-E[log p(x)] in nats, by the trapezoid rule, which converges exponentially on it."""
        step = self.deviation / 4  # out to 8 deviations beyond the centers
        count = math.ceil(float(self.centers.abs().max()) / step) + 32
        axis = torch.arange(-count, count + 1, dtype=torch.float64) * step
        log_p = self.log_prob(torch.cartesian_prod(axis, axis))
        return float(-(log_p.exp() * log_p).sum()) * step**2
