"""What a density is that is known exactly."""

from typing import Protocol, runtime_checkable

from torch import Generator, Tensor


class Target(Protocol):
    """A density to learn: what the data, the metrics and the pictures need of it.

    Pictures also mark its `modes`, (M, D), if it has any; without an `extent` they show what
    held-out points span, and its KL is by sampling. One that no even grid over its extent resolves
    has a `quadrature(cells)` of its own: points (N, D) and weights (N,) for its means.
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


@runtime_checkable
class Conditional(Protocol):
    """A density for each context: what the data and the metrics need of it.

    `entropy` is the mean over contexts, as all that is said of it: the lowest NLL of any model.
    """

    dim: int
    context: int  # numbers of one
    extent: float

    @property
    def entropy(self) -> float:
        """E_c[-E[log p(x | c)]] in nats."""

    def contexts(self, n: int) -> Tensor:
        """N contexts, the middles of parts of equal probability: (n, C)."""

    def sample_context(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n contexts: (n, C)."""

    def given(self, context: Tensor) -> Target:
        """The density given a context (C,)."""

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        """Log-density in nats: (..., D) and (..., C) -> (...)."""

    def sample(self, n: int, context: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw n points for each context (..., C): (n, ..., D)."""
