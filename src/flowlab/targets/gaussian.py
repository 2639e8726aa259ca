"""The easiest density, in any number of dimensions: what affine layers can copy exactly."""

import math

import torch
from torch import Generator, Tensor


class Gaussian:
    """A normal about the origin, each coordinate of variance 1, each two with a correlation of 0.8.

    p(x) = N(x; 0, (1 - r) I + r 1 1^T),  r = 0.8

    The eigenvalues are 1 - r + r D along the diagonal, and 1 - r across it.

    >>> round(Gaussian(1).entropy, 6)
    1.418939
    """

    extent = 6.0
    correlation = 0.8

    def __init__(self, dim: int = 2):
        self.dim = dim
        self.modes = torch.zeros(1, dim)
        self.across = 1 - self.correlation
        self.along = self.across + self.correlation * dim

    @property
    def entropy(self) -> float:
        """-E[log p(x)] in nats."""
        return 0.5 * (self.dim + self._log_norm())

    def _log_norm(self) -> float:
        log_det = math.log(self.along) + (self.dim - 1) * math.log(self.across)
        return self.dim * math.log(2 * math.pi) + log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., D) -> (...)."""
        mean = x.mean(-1, keepdim=True)
        across = (x - mean).square().sum(-1) / self.across
        along = self.dim * mean.squeeze(-1).square() / self.along
        return -0.5 * (across + along + self._log_norm())

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, D)."""
        shared = math.sqrt(self.correlation) * torch.randn(n, 1, generator=generator)
        return shared + math.sqrt(self.across) * torch.randn(n, self.dim, generator=generator)
