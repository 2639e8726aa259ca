"""A normal bent along a parabola, also called a banana."""

import math

import torch
from torch import Tensor

from flowlab.targets.sheared import Sheared


class Crescent(Sheared):
    """A normal coordinate and a noisy square of it.

    p(x) = N(x_1; 0, 1.2^2) N(x_2; x_1^2 / 2 - 2, 0.4^2)

    Source: H. Haario, E. Saksman, J. Tamminen, "Adaptive proposal distribution for random walk
    Metropolis algorithm", Computational Statistics 14, 1999, for the bend.
    """

    extent = 4.0
    deviation = 1.2
    mean_log_scale = math.log(0.4)

    def middle(self, first: Tensor) -> Tensor:
        return 0.5 * first.square() - 2

    def log_scale(self, first: Tensor) -> Tensor:
        return torch.full_like(first, self.mean_log_scale)
