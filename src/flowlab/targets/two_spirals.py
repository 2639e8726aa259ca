"""Two spirals, one the other turned by half a turn."""

import math

import torch

from flowlab.targets.curves import Curve


class TwoSpirals(Curve):
    """Spirals of Archimedes whose radius grows from 0.55 to 3.3, blurred by 0.15.

    +-0.35 t (cos t, sin t),  t in [pi/2, 3 pi]

    Centers are even in t^2, which is nearly the length of the curve.
    """

    def __init__(self) -> None:
        square = torch.linspace((math.pi / 2) ** 2, (3 * math.pi) ** 2, 128, dtype=torch.float64)
        t = square.sqrt()
        spiral = 0.35 * t.unsqueeze(-1) * torch.stack((t.cos(), t.sin()), dim=-1)
        super().__init__(torch.cat((spiral, -spiral)), deviation=0.15)
