"""Linear layers: what stands between the layers of a flow so that all coordinates get mixed.

Both take vectors (N, D), or images (N, H, W, D), of which they move the vector at each place alike.
"""

import math

import torch
from torch import Tensor, nn

from flowlab.flows.transform import Transform


class ActNorm(Transform):
    """Shift and scale of each coordinate, which `fit` sets once and training goes on with.

        u = (x + b) exp(s),   log|det J| = sum of s

    It starts as the identity, and after `fit(x)` the points x come out with mean 0 and standard
    deviation 1. That it was fitted is a part of its state, so that a layer that was saved and
    loaded is never fitted again. Turned round it is not fitted.

    Reference: Kingma and Dhariwal, "Glow", NeurIPS 2018, section 3.1.
    """

    fitted: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(dim))
        self.s = nn.Parameter(torch.zeros(dim))
        # a number as all others of a flow's state, which has one type
        self.register_buffer("fitted", torch.zeros(()))

    @torch.no_grad()
    def fit(self, x: Tensor, context: Tensor | None = None) -> None:
        if not self.fitted:
            x = x.flatten(0, -2)
            self.b.copy_(-x.mean(0))
            self.s.copy_(-x.std(0, correction=0).clamp(min=1e-6).log())
            self.fitted.fill_(1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x + self.b) * self.s.exp(), _at_all_places(self.s.sum(), x)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u * (-self.s).exp() - self.b, -_at_all_places(self.s.sum(), u)


class LU(Transform):
    """A linear layer, given by its LU decomposition.

        u = P L (U + diag(exp(s))) x,   log|det J| = sum of s

    L has ones on its diagonal, U zeros; both, with s on the diagonal, are one matrix of parameters,
    which starts at zero. P is a permutation, held as a matrix with the layer's state: the reversal,
    which the whole layer therefore starts as. Inverting it takes two triangular solves.

    Reference: Kingma and Dhariwal, "Glow", NeurIPS 2018, eqs. (10) and (11).
    """

    permutation: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(dim, dim))
        self.register_buffer("permutation", torch.eye(dim).flip(0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_det = self._factors()
        return x @ (self.permutation @ lower @ upper).mT, _at_all_places(log_det, x)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_det = self._factors()
        columns = (u.flatten(0, -2) @ self.permutation).mT
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return columns.mT.reshape(u.shape), -_at_all_places(log_det, u)

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """L, U with its diagonal, and the log-determinant, ()."""
        s = self.raw.diagonal()
        lower = self.raw.tril(-1) + torch.eye(len(s), dtype=s.dtype, device=s.device)
        return lower, self.raw.triu(1) + s.exp().diag_embed(), s.sum()


def _at_all_places(log_det: Tensor, x: Tensor) -> Tensor:
    """The log-det of a map of one vector, for points x that have it at each of their places."""
    return (log_det * math.prod(x.shape[1:-1])).expand(len(x))
