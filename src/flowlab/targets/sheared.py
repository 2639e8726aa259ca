"""Densities in which a normal coordinate moves and stretches the others: closed in every figure."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

REACH = 7.5  # deviations of a normal: beyond lies a part in 10^13


class Sheared(ABC):
    """A point made of normal numbers z: x_1 = a z_1, and x_i = m(x_1) + s(x_1) z_i for the others.

    p(x) = N(x_1; 0, a^2) prod_i N(x_i; m(x_1), s(x_1)^2)

    Its entropy is D/2 log(2 pi e) + log a + (D - 1) E[log s(x_1)]. A subclass has a `deviation` a,
    `middle` and `log_scale`, functions of x_1 (..., 1), and `mean_log_scale`, which is E[log s].
    """

    dim = 2
    deviation: float
    mean_log_scale: float

    @abstractmethod
    def middle(self, first: Tensor) -> Tensor:
        """m(x_1): (..., 1) -> (..., 1)."""

    @abstractmethod
    def log_scale(self, first: Tensor) -> Tensor:
        """Log s(x_1): (..., 1) -> (..., 1)."""

    @property
    def entropy(self) -> float:
        """-E[log p(x)] in nats."""
        normal = 0.5 * self.dim * math.log(2 * math.pi * math.e)
        return normal + math.log(self.deviation) + (self.dim - 1) * self.mean_log_scale

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., D) -> (...)."""
        first, others = x[..., :1], x[..., 1:]
        log_scale = self.log_scale(first)
        z = torch.cat((first / self.deviation, (others - self.middle(first)) / log_scale.exp()), -1)
        log_det = math.log(self.deviation) + (self.dim - 1) * log_scale.squeeze(-1)
        return -0.5 * (z.square().sum(-1) + self.dim * math.log(2 * math.pi)) - log_det

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, D)."""
        return self.from_normal(torch.randn(n, self.dim, generator=generator))

    def from_normal(self, z: Tensor) -> Tensor:
        """The points that normal numbers make: (..., D) -> (..., D)."""
        first = self.deviation * z[..., :1]
        others = self.middle(first) + self.log_scale(first).exp() * z[..., 1:]
        return torch.cat((first, others), dim=-1)

    def quadrature(self, cells: int) -> tuple[Tensor, Tensor]:
        """Points (N, D) and weights (N,) whose sum of w f(x) is E[f(x)]; in the plane.

        They are the middles of a grid over z, of that many cells to a deviation: over x there is
        none that reaches both the narrow and the far.
        """
        axis = (torch.arange(round(2 * REACH * cells), dtype=torch.float64) + 0.5) / cells - REACH
        z = torch.cartesian_prod(*self.dim * [axis]).reshape(-1, self.dim)
        z = z[z.square().sum(-1) < REACH**2]
        log_weight = -0.5 * z.square().sum(-1) - self.dim * math.log(cells * math.sqrt(2 * math.pi))
        return self.from_normal(z), log_weight.exp()
