"""A wave that fades to both sides."""

import math

import torch
from torch import Tensor

from flowlab.targets.sheared import Sheared


class Sine(Sheared):
    """A normal coordinate and a noisy sine of it.

    p(x) = N(x_1; 0, 1.2^2) N(x_2; 2 sin(pi x_1 / 1.5), 0.25^2)

    >>> round(Sine().entropy, 6)
    1.633904
    """

    extent = 4.0
    deviation = 1.2
    mean_log_scale = math.log(0.25)

    def middle(self, first: Tensor) -> Tensor:
        return 2 * (first * (math.pi / 1.5)).sin()

    def log_scale(self, first: Tensor) -> Tensor:
        return torch.full_like(first, self.mean_log_scale)
