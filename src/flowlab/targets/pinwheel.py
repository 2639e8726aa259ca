"""Five arms that curl about a center."""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor

from flowlab.targets.turning import turned


class Pinwheel:
    """Five equal Gaussians, long outwards and thin across, each turned further the farther it goes.

    p(x) = 1/5 sum of N(R(-k 2 pi / 5 - |x| / 2) x; (2, 0), diag(0.45^2, 0.2^2)),  k = 0 ... 4

    A turn R by an angle that depends on the distance |x| alone keeps distances and areas, so that
    its log-det is 0. Source, with another curl: M. Johnson et al., "Composing graphical models with
    neural networks for structured representations and fast inference", 2016.
    """

    dim = 2
    extent = 4.0
    arms, distance, curl = 5, 2.0, 0.5
    deviations = (0.45, 0.2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) -> (...)."""
        arm = torch.arange(self.arms, dtype=x.dtype, device=x.device) * (2 * math.pi / self.arms)
        angle = arm + self.curl * torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        z = turned(x.unsqueeze(-2), -angle.unsqueeze(-1))
        out, across = self.deviations
        square = ((z[..., 0] - self.distance) / out).square() + (z[..., 1] / across).square()
        log_norm = math.log(self.arms * 2 * math.pi * out * across)
        return torch.logsumexp(-0.5 * square, dim=-1) - log_norm

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        arm = torch.randint(self.arms, (n, 1), generator=generator) * (2 * math.pi / self.arms)
        z = torch.randn(n, 2, generator=generator) * torch.tensor(self.deviations)
        z[:, 0] += self.distance
        return turned(z, arm + self.curl * torch.linalg.vector_norm(z, dim=-1, keepdim=True))

    @cached_property
    def entropy(self) -> float:
        """-E[log p(x)] in nats, by the trapezoid rule."""
        step = 0.05
        axis = torch.arange(-120, 121, dtype=torch.float64) * step
        log_p = self.log_prob(torch.cartesian_prod(axis, axis))
        return float(torch.special.entr(log_p.exp()).sum()) * step**2
