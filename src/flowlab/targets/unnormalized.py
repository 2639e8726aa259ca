"""A density that is known up to a factor."""

from collections.abc import Callable

from torch import Tensor


class Unnormalized:
    """p(x) = f(x) / Z of which log f is all that is known, as of the posterior of a model.

    `log_density` takes points (..., D) to log f in nats, (...).
    """

    log_z = None

    def __init__(self, log_density: Callable[[Tensor], Tensor], dim: int):
        self.log_density = log_density
        self.dim = dim
