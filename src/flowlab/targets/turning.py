"""A density for each context."""

import math

import torch
from torch import Generator, Tensor

from flowlab.targets.bimodal import Bimodal


class Turning:
    """`Bimodal` turned about the origin by the angle that its context says, in radians.

    p(x | c) = 1/2 N(x; R(c) m, v I) + 1/2 N(x; -R(c) m, v I),  c uniform on (-pi/2, pi/2)

    Half a turn brings all angles about, for the two modes are alike. Shapes: a context (..., 1),
    whose leading shape broadcasts against that of the points.

    >>> Turning().entropy == Bimodal().entropy
    True
    """

    dim = 2
    context = 1
    extent = Bimodal.extent

    def __init__(self) -> None:
        self.still = Bimodal()

    @property
    def entropy(self) -> float:
        """-E[log p(x | c)] in nats, the same for each context: the lowest NLL of any model."""
        return self.still.entropy

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) and (..., 1) -> (...)."""
        return self.still.log_prob(turned(x, -context))

    def contexts(self, n: int) -> Tensor:
        """The middles of n parts of equal probability: (n, 1)."""
        return math.pi * ((torch.arange(n).unsqueeze(1) + 0.5) / n - 0.5)

    def given(self, context: Tensor) -> "Turned":
        """The density given a context (1,)."""
        return Turned(self, context)

    def sample_context(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n contexts: (n, 1)."""
        return math.pi * (torch.rand(n, 1, generator=generator) - 0.5)

    def sample(self, n: int, context: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw n points for each context (..., 1): (n, ..., 2)."""
        leading = (n, *context.shape[:-1])
        x = self.still.sample(math.prod(leading), generator).reshape(*leading, 2)
        return turned(x, context)


class Turned:
    """`Turning` given a context."""

    dim, extent = Turning.dim, Turning.extent

    def __init__(self, turning: Turning, context: Tensor):
        self.turning, self.context, self.entropy = turning, context, turning.entropy

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) -> (...)."""
        return self.turning.log_prob(x, self.context)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        return self.turning.sample(n, self.context, generator)


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Points (..., 2) turned about the origin by angles (..., 1)."""
    c, s = angle[..., 0].cos(), angle[..., 0].sin()
    return torch.stack((c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]), dim=-1)
