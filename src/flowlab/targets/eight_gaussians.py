"""A ring of eight modes: holes between them, and one in the middle."""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor


class EightGaussians:
    """Eight equal Gaussian modes on a circle of radius 2.5, each with a standard deviation of 0.3.

    p(x) = 1/8 sum of N(x; m_k, 0.3^2 I),  m_k = 2.5 (cos(k pi / 4), sin(k pi / 4)),  k = 0 ... 7

    >>> round(EightGaussians().entropy, 6)
    2.505268
    """

    dim = 2
    radius, deviation = 2.5, 0.3
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    modes = (radius * torch.stack((angles.cos(), angles.sin()), dim=-1)).float()
    extent = 4.0

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) -> (...)."""
        square = (x.unsqueeze(-2) - self.modes.to(x)).square().sum(-1)
        log_norm = math.log(8 * 2 * math.pi * self.deviation**2)
        return torch.logsumexp(-0.5 * square / self.deviation**2, dim=-1) - log_norm

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        mode = torch.randint(8, (n,), generator=generator)
        noise = torch.randn(n, self.dim, generator=generator)
        return self.modes[mode] + self.deviation * noise

    @cached_property
    def entropy(self) -> float:
        """-E[log p(x)] in nats, by the trapezoid rule, which converges exponentially on it."""
        step = 0.05  # a sixth of the deviation, out to 8 deviations beyond the modes
        axis = torch.arange(-98, 99, dtype=torch.float64) * step
        log_p = self.log_prob(torch.cartesian_prod(axis, axis))
        return float(-(log_p.exp() * log_p).sum()) * step**2
