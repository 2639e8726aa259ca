"""The energies u1 to u4 of variational inference, in the plane, as densities like the others."""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Generator, Tensor

BOX = 6.0  # half the side of the soft box


class Energy(ABC):
    """A density that is known by its energy: p(x) = exp(-energy(x)) / Z.

    energy(x) = U(x) + relu(|x_1| - 6)^2 + relu(|x_2| - 6)^2

    The soft box makes those proper that go on for ever in x_1. A subclass has U, the `potential`, a
    density to `propose` from, and the `excess` >= 0 of its energy over that density's: what is
    proposed is kept with the probability exp(-excess), so that samples are exact.

    Source: D. Rezende, S. Mohamed, "Variational inference with normalizing flows", 2015, table 1;
    the box: N. De Cao, I. Titov, W. Aziz, "Block neural autoregressive flow", 2019.
    """

    dim = 2
    extent: float

    @abstractmethod
    def potential(self, x: Tensor) -> Tensor:
        """U in nats: (..., 2) -> (...)."""

    @abstractmethod
    def propose(self, n: int, generator: Generator | None) -> Tensor:
        """Points of a density that lies, up to a factor, above this one: (n, 2)."""

    @abstractmethod
    def excess(self, x: Tensor) -> Tensor:
        """By how much the energy is above that of `propose`, in nats: (..., 2) -> (...)."""

    def energy(self, x: Tensor) -> Tensor:
        """-log p(x) - log Z in nats: (..., 2) -> (...)."""
        return self.potential(x) + outside(x, BOX).square().sum(-1)

    def log_density(self, x: Tensor) -> Tensor:
        """Log p(x) + log Z in nats: (..., 2) -> (...)."""
        return -self.energy(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: (..., 2) -> (...)."""
        return self.log_density(x) - self.log_z

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        kept = torch.empty(0, 2)
        while len(kept) < n:
            x = self.propose(n, generator)
            accepted = torch.rand(n, generator=generator) < (-self.excess(x)).exp()
            kept = torch.cat((kept, x[accepted]))
        return kept[:n]

    @property
    def log_z(self) -> float:
        """The log of the integral of exp(-energy(x)), in nats."""
        return self._integrals[0]

    @property
    def entropy(self) -> float:
        """-E[log p(x)] in nats."""
        return self._integrals[1]

    @cached_property
    def _integrals(self) -> tuple[float, float]:
        """Log Z and the entropy, by the trapezoid rule; the box begins at one of its points."""
        step = 0.05
        first, second = (
            torch.arange(-n, n + 1, dtype=torch.float64) * step for n in (220, 180)
        )  # to where exp(-energy) is below 10^-10 of its highest
        energy = self.energy(torch.cartesian_prod(first, second))
        log_z = float(torch.logsumexp(-energy, dim=0)) + 2 * math.log(step)
        mean = float((energy * (-energy - log_z).exp()).sum()) * step**2
        return log_z, mean + log_z


class U1(Energy):
    """A ring of radius 2 that is dense at its left and its right.

    U(x) = 1/2 ((|x| - 2) / 0.4)^2 - log(exp(-1/2 ((x_1 - 2) / 0.6)^2)
                                         + exp(-1/2 ((x_1 + 2) / 0.6)^2))

    >>> round(U1().log_z, 4)
    1.8775
    """

    extent = 4.0

    def potential(self, x: Tensor) -> Tensor:
        sides = -0.5 * ((x[..., :1] - x.new_tensor([2.0, -2.0])) / 0.6).square()
        return 0.5 * ((_radius(x) - 2) / 0.4).square() - torch.logsumexp(sides, dim=-1)

    def propose(self, n: int, generator: Generator | None) -> Tensor:
        """The two sides as they are, and in x_2 flat up to the ring's radius."""
        side = 4.0 * torch.randint(2, (n,), generator=generator) - 2
        first = side + 0.6 * torch.randn(n, generator=generator)
        return torch.stack((first, flat(n, 2.0, 0.4, generator)), dim=-1)

    def excess(self, x: Tensor) -> Tensor:
        more = (_radius(x) - 2).square() - outside(x[..., 1], 2.0).square()
        return 0.5 * more / 0.4**2 + outside(x, BOX).square().sum(-1)


class Bands(Energy):
    """Bands along x_1, that of `deviations` s_j about `middles` m_j(x_1).

    U(x) = -log sum_j exp(-1/2 ((x_2 - m_j(x_1)) / s_j)^2)
    """

    extent = 10.0  # the bands end in the soft box
    deviations: tuple[float, ...]

    @abstractmethod
    def middles(self, first: Tensor) -> Tensor:
        """x_2 in the middle of each band: (...) -> (..., J)."""

    def potential(self, x: Tensor) -> Tensor:
        z = (x[..., 1:] - self.middles(x[..., 0])) / x.new_tensor(self.deviations)
        return -torch.logsumexp(-0.5 * z.square(), dim=-1)

    def propose(self, n: int, generator: Generator | None) -> Tensor:
        """All as it is but for the box in x_2: at each x_1 a band is as likely as it is wide."""
        first = flat(n, BOX, math.sqrt(0.5), generator)
        deviations = torch.tensor(self.deviations)
        edges = (deviations / deviations.sum()).cumsum(0)[:-1]
        band = torch.searchsorted(edges, torch.rand(n, generator=generator), right=True)
        middle = self.middles(first).gather(-1, band.unsqueeze(-1)).squeeze(-1)
        second = middle + deviations[band] * torch.randn(n, generator=generator)
        return torch.stack((first, second), dim=-1)

    def excess(self, x: Tensor) -> Tensor:
        return outside(x[..., 1], BOX).square()


class U2(Bands):
    """One wave: m_1 = w_1 = sin(pi x_1 / 2), s_1 = 0.4.

    >>> round(U2().log_z, 4)
    2.6253
    """

    deviations = (0.4,)

    def middles(self, first: Tensor) -> Tensor:
        return _wave(first).unsqueeze(-1)


class U3(Bands):
    """A wave that parts into two for a while: m_1 = w_1, m_2 = w_1 - w_2, s_1 = s_2 = 0.35.

    w_1 = sin(pi x_1 / 2),  w_2 = 3 exp(-1/2 ((x_1 - 1) / 0.6)^2)

    >>> round(U3().log_z, 4)
    3.1849
    """

    deviations = (0.35, 0.35)

    def middles(self, first: Tensor) -> Tensor:
        apart = 3 * (-0.5 * ((first - 1) / 0.6).square()).exp()
        return torch.stack((_wave(first), _wave(first) - apart), dim=-1)


class U4(Bands):
    """A wave that parts into two for good: m_1 = w_1, m_2 = w_1 - w_3, s_1 = 0.4, s_2 = 0.35.

    w_1 = sin(pi x_1 / 2),  w_3 = 3 sigmoid((x_1 - 1) / 0.3)

    >>> round(U4().log_z, 4)
    3.2539
    """

    deviations = (0.4, 0.35)

    def middles(self, first: Tensor) -> Tensor:
        apart = 3 * ((first - 1) / 0.3).sigmoid()
        return torch.stack((_wave(first), _wave(first) - apart), dim=-1)


def outside(x: Tensor, half: float) -> Tensor:
    """How far numbers are outside [-half, half]: (...) -> (...)."""
    return (x.abs() - half).relu()


def flat(n: int, half: float, deviation: float, generator: Generator | None) -> Tensor:
    """Draw n numbers, (n,), of the density that is flat on [-half, half] and normal beyond.

    p(t) proportional to exp(-1/2 (relu(|t| - half) / deviation)^2)
    """
    within, beyond = 2 * half, deviation * math.sqrt(2 * math.pi)
    is_beyond = torch.rand(n, generator=generator) < beyond / (within + beyond)
    inside = half * (2 * torch.rand(n, generator=generator) - 1)
    tail = half + deviation * torch.randn(n, generator=generator).abs()
    return torch.where(is_beyond, torch.copysign(tail, inside), inside)


def _radius(x: Tensor) -> Tensor:
    radius: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return radius


def _wave(first: Tensor) -> Tensor:
    return (first * (math.pi / 2)).sin()
