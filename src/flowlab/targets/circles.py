"""Two circles about one center: a hole within a ring within a ring."""

import math

import torch

from flowlab.targets.curves import Curve


class Circles(Curve):
    """Circles of radius 1.5 and 3 about the origin, as likely as they are long, blurred by 0.15.

    r (cos t, sin t),  r in {1.5, 3}
    """

    def __init__(self) -> None:
        rings = []
        for radius, count in ((1.5, 64), (3.0, 128)):
            t = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
            rings.append(radius * torch.stack((t.cos(), t.sin()), dim=-1))
        super().__init__(torch.cat(rings), deviation=0.15)
