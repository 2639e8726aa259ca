"""Densities that are known exactly, for a flow to learn."""

import math
from functools import cached_property
from typing import Protocol

import torch
from torch import Generator, Tensor


class Target(Protocol):
    """A density to learn: what the data, the metrics and the pictures need of it.

    Pictures also mark its `modes`, (M, D), if it has any.
    """

    dim: int
    extent: float  # half the side of the square that pictures show

    @property
    def entropy(self) -> float:
        """-E[log p(x)] in nats: the lowest NLL that any model can reach."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., D) -> (...)."""

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, D)."""


class Bimodal:
    """Two equal Gaussian modes in the plane, at (1.5, 1.5) and (-1.5, -1.5), covariance 0.2 I.

    p(x) = 1/2 N(x; m, v I) + 1/2 N(x; -m, v I)

    Source: D. Daza, "Transforming distributions with Normalizing Flows", 2020.

    >>> round(Bimodal().entropy, 4)
    1.9216
    """

    dim = 2
    modes = torch.tensor([[1.5, 1.5], [-1.5, -1.5]])
    variance = 0.2
    extent = 4.0

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) -> (...)."""
        square = (x.unsqueeze(-2) - self.modes.to(x)).square().sum(-1)
        log_norm = math.log(2 * 2 * math.pi * self.variance)
        return torch.logsumexp(-0.5 * square / self.variance, dim=-1) - log_norm

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        mode = torch.randint(2, (n,), generator=generator)
        noise = torch.randn(n, self.dim, generator=generator)
        return self.modes[mode] + math.sqrt(self.variance) * noise

    @cached_property
    def entropy(self) -> float:
        """-E[log p(x)] in nats, by quadrature.

        The density is a Gaussian across the line through the modes, so only the mixture along
        that line, N(+-|m|, v) in equal parts, is integrated; the trapezoid rule converges
        exponentially on it.
        """
        distance = float(self.modes[0].double().norm())
        t = torch.linspace(-12, 12, 4001, dtype=torch.float64)
        centers = torch.tensor([distance, -distance], dtype=torch.float64)
        log_p = torch.logsumexp(-0.5 * (t[:, None] - centers).square() / self.variance, dim=1)
        log_p = log_p - 0.5 * math.log(2 * math.pi * self.variance) - math.log(2)
        along = -torch.trapezoid(log_p.exp() * log_p, t)
        across = 0.5 * math.log(2 * math.pi * math.e * self.variance)
        return float(along) + across


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
        return self.still.log_prob(_turned(x, -context))

    def sample_context(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n contexts: (n, 1)."""
        return math.pi * (torch.rand(n, 1, generator=generator) - 0.5)

    def sample(self, n: int, context: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw n points for each context (..., 1): (n, ..., 2)."""
        leading = (n, *context.shape[:-1])
        x = self.still.sample(math.prod(leading), generator).reshape(*leading, 2)
        return _turned(x, context)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    """Points (..., 2) turned about the origin by angles (..., 1)."""
    c, s = angle[..., 0].cos(), angle[..., 0].sin()
    return torch.stack((c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]), dim=-1)


TARGETS: dict[str, type[Target]] = {
    "bimodal": Bimodal,
}
