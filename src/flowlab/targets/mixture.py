"""Unequal modes, in any number of dimensions."""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor


class Mixture:
    """Gaussian modes of weights 0.5, 0.3 and 0.2 on a diagonal, each with a deviation of 0.4.

    p(x) = sum of w_k N(x; t_k d, 0.4^2 I),  t = -2, 0, 2,  d = (1, -1, 1, -1, ...)

    >>> Mixture(3).modes[0]
    tensor([-2.,  2., -2.])
    """

    extent = 4.0
    places, weights, deviation = (-2.0, 0.0, 2.0), (0.5, 0.3, 0.2), 0.4

    def __init__(self, dim: int = 2):
        self.dim = dim
        self.diagonal = 1.0 - 2.0 * (torch.arange(dim) % 2)
        self.modes = torch.tensor(self.places).unsqueeze(1) * self.diagonal

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., D) -> (...)."""
        diagonal = self.diagonal.to(x)
        along = (x * diagonal).mean(-1, keepdim=True)
        across = (x - along * diagonal).square().sum(-1) / self.deviation**2
        normal = across + (self.dim - 1) * math.log(2 * math.pi * self.deviation**2)
        return self._log_prob_along(math.sqrt(self.dim) * along) - 0.5 * normal

    def _log_prob_along(self, t: Tensor) -> Tensor:
        """The density of a point's part along the diagonal, a length: (..., 1) -> (...)."""
        centers = math.sqrt(self.dim) * torch.tensor(self.places).to(t)
        log_weights = torch.tensor(self.weights).to(t).log()
        square = ((t - centers) / self.deviation).square()
        log_norm = 0.5 * math.log(2 * math.pi * self.deviation**2)
        return torch.logsumexp(log_weights - 0.5 * square, dim=-1) - log_norm

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, D)."""
        u = torch.rand(n, generator=generator)
        mode = torch.searchsorted(torch.tensor(self.weights).cumsum(0)[:-1], u, right=True)
        noise = torch.randn(n, self.dim, generator=generator)
        return self.modes[mode] + self.deviation * noise

    @cached_property
    def entropy(self) -> float:
        """-E[log p(x)] in nats: along the diagonal by the trapezoid rule, and closed across it."""
        step = self.deviation / 8  # out to 10 deviations beyond the modes
        count = math.ceil(math.sqrt(self.dim) * max(self.places) / step) + 80
        t = torch.arange(-count, count + 1, dtype=torch.float64) * step
        along = torch.special.entr(self._log_prob_along(t.unsqueeze(-1)).exp()).sum() * step
        across = 0.5 * (self.dim - 1) * math.log(2 * math.pi * math.e * self.deviation**2)
        return float(along) + across
