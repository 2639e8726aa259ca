"""The first experiment's density."""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor


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
