"""Layers that push each point by what a few units of tanh make of it."""

import torch
from torch import Tensor

from flowlab.flows.amortised import Amortised
from flowlab.flows.solve import find_root


class Ridge(Amortised):
    """M units of tanh, whose results push the point.

        f(x) = x + B tanh(A x + b),   log|det J| = sum of log(1 + d_i (1 - tanh^2(A x + b)_i))

    where A B is upper triangular with the diagonal d > -1. The point behind u' is found from the
    last unit to the first: z = A x + b has one root of

        z_i + d_i tanh(z_i) = (A u' + b)_i - sum over j > i of (A B)_ij tanh(z_j),

    no farther from the right side than |d_i|. One Newton step at the root, which moves nothing,
    gives it the gradient that the implicit function theorem says (the first; no second one).

    To implement one, write `vectors`: the transposes of A, (n, D, M), and of B, (n, M, D), b and d.
    """

    generates = False

    def push(self, x: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        a, b, bias, _ = vectors
        bend = affine(x, a, bias).tanh()
        return affine(bend, b, x), bend

    def log_det(self, bend: Tensor, *vectors: Tensor) -> Tensor:
        return torch.log1p(vectors[3] * (1 - bend.square())).sum(-1)

    def pull(self, u: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        a, b, bias, d = vectors
        right, others, bends = affine(u, a, bias), b @ a, []
        for i in reversed(range(d.shape[-1])):
            bends.append(_unit(right[:, i], d[:, i]))
            if i:
                right = right - bends[-1].unsqueeze(-1) * others[:, i]
        bend = torch.stack(bends[::-1], dim=-1)
        return affine(-bend, b, u), -self.log_det(bend, *vectors)


def _unit(right: Tensor, d: Tensor) -> Tensor:
    """tanh(z) where z + d tanh(z) is the right side."""
    with torch.no_grad():
        reach = d.abs()
        z = find_root(lambda z: z + d * z.tanh() - right, right - reach, right + reach)
        bend = z.tanh()
        slope = 1 + d * (1 - bend.square())
    if torch.is_grad_enabled():
        residual = z + d * bend - right
        bend = (z - (residual - residual.detach()) / slope).tanh()
    return bend


def affine(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Give offset + x matrix, for points (N, D), a matrix (n, D, M) and an offset (n, M)."""
    if len(matrix) == 1:
        return torch.addmm(offset, x, matrix[0])
    return torch.baddbmm(offset.unsqueeze(1), x.unsqueeze(1), matrix).squeeze(1)
