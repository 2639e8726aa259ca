"""Two interleaving half circles."""

import math

import torch

from flowlab.targets.curves import Curve


class TwoMoons(Curve):
    """Two half circles of radius 2, each with an end in the other, blurred by 0.2.

    +-(2 cos t - 1, 2 sin t - 1/2),  t in [0, pi]

    The shape is that of scikit-learn's make_moons with noise 0.1, twice as large, about the origin.

    >>> TwoMoons().centers.shape
    torch.Size([80, 2])
    """

    def __init__(self) -> None:
        t = torch.linspace(0, math.pi, 40, dtype=torch.float64)
        moon = torch.stack((2 * t.cos() - 1, 2 * t.sin() - 0.5), dim=-1)
        super().__init__(torch.cat((moon, -moon)), deviation=0.2)
