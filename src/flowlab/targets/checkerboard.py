"""A density with edges: what no smooth map of a normal can copy, only approach."""

import math

import torch
from torch import Generator, Tensor


class Checkerboard:
    """Uniform on the eight black cells, of side 2, of the 4 x 4 board on [-4, 4]^2.

    p(x) = 1/32 where floor(x_1 / 2) + floor(x_2 / 2) is even, 0 on the white cells and outside

    >>> Checkerboard().entropy == math.log(32)
    True
    """

    dim = 2
    extent = 4.5  # shows the board's edge
    entropy = math.log(32)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, -inf where it is zero: (..., 2) -> (...)."""
        cell = (x / 2).floor()
        black = ((cell >= -2) & (cell < 2)).all(-1) & (cell.sum(-1) % 2 == 0)
        return black.to(x.dtype).log() - self.entropy

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, 2)."""
        row = torch.randint(4, (n,), generator=generator)
        column = 2 * torch.randint(2, (n,), generator=generator) + row % 2
        corner = 2.0 * torch.stack((column, row), dim=-1) - 4
        # away from the edges, where rounding would put a point into the next cell
        inside = torch.rand(n, 2, generator=generator).clamp(2**-20, 1 - 2**-20)
        return corner + 2 * inside
