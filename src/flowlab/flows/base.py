"""The base density of all flows."""

import math

import torch
from torch import Generator, Tensor, nn


class StandardNormal(nn.Module):
    """The base density N(0, I) of vectors of D numbers.

    log p(u) = -1/2 (D log 2 pi + |u|^2)

    The mean is a buffer, so that samples are drawn on the flow's device and in its precision.
    """

    loc: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.log_normalizer = 0.5 * dim * math.log(2 * math.pi)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log-density in nats: (..., D) -> (...)."""
        return -0.5 * u.square().sum(-1) - self.log_normalizer

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, D)."""
        shape = (n, *self.loc.shape)
        return torch.randn(shape, generator=generator, device=self.loc.device, dtype=self.loc.dtype)
