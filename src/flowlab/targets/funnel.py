"""Neal's funnel: a coordinate that sets the scale of all others."""

import torch
from torch import Tensor

from flowlab.targets.sheared import Sheared


class Funnel(Sheared):
    """A normal coordinate that is twice the log-scale of all others, of which there are any number.

    p(x) = N(x_1; 0, 3^2) prod_i N(x_i; 0, exp(x_1))

    Raises ValueError for less than two dimensions.

    Source: R. Neal, "Slice sampling", Annals of Statistics 31, 2003, section 8.

    >>> Funnel(10).sample(3).shape
    torch.Size([3, 10])
    """

    extent = 8.0
    deviation = 3.0
    mean_log_scale = 0.0

    def __init__(self, dim: int = 2):
        if dim < 2:
            raise ValueError(f"dim={dim}: a funnel needs at least 2")
        self.dim = dim

    def middle(self, first: Tensor) -> Tensor:
        return torch.zeros_like(first)

    def log_scale(self, first: Tensor) -> Tensor:
        return first / 2
