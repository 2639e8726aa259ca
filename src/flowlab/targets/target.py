"""What a density is that is known exactly."""

from typing import Protocol

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
