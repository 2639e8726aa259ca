"""Sylvester flows: layers of several units of tanh, a planar layer with more than one."""

import math

import torch
from torch import Tensor

from flowlab.flows.amortised import Vectors
from flowlab.flows.ridge import Ridge
from flowlab.flows.transform import Transform, vector_size

VARIANTS = ("orthogonal", "householder", "triangular")
LARGEST = 0.99  # of the diagonals' absolute values: at 1 the layer would cease to be invertible


class Sylvester(Ridge):
    """One Sylvester layer on R^D, of M units.

        f(x) = x + Q R tanh(S Q^T x + b),   log|det J| = sum of log(1 + r_i s_i (1 - tanh^2(...)_i))

    Q has M orthonormal columns, R and S are upper triangular with the diagonals r and s. It is
    invertible if r_i s_i > -1, so both are tanh of free parameters, times LARGEST. The other
    entries of R and S share one matrix of parameters, and Q comes from its own by the variant:

        orthogonal    the orthonormal factor of a matrix (D, M), by Gram and Schmidt
        householder   the first M columns of a product of H reflections I - 2 v v^T / |v|^2
        triangular    the unit matrix, or, `flipped`, the one that reverses the coordinates; M = D

    Given a context, all parameters are an affine function of it. The way back takes M solves.

    Reference: van den Berg et al., "Sylvester Normalizing Flows for Variational Inference", UAI
    2018, eqs. (8) to (16), where Q of the first variant comes by an iteration.
    """

    def __init__(
        self,
        dim: int,
        num_units: int,
        context: int = 0,
        variant: str = "householder",
        num_reflections: int = 8,
        flipped: bool = False,
    ):
        m = num_units
        size = {"orthogonal": dim * m, "householder": num_reflections * dim, "triangular": 0}
        # R with its diagonal (upper), S without its own (lower, transposed); that of S; b; Q
        entries = 0.01 * torch.randn(m, m).triu() + torch.randn(m, m).tril(-1) / math.sqrt(dim)
        raw = torch.cat((entries.flatten(), torch.randn(2 * m + size[variant])))
        super().__init__(raw, context)
        self.sizes = [m * m, m, m, size[variant]]
        self.dim, self.num_units, self.variant, self.flipped = dim, m, variant, flipped

    def vectors(self, raw: Tensor) -> Vectors:
        """A^T = Q S^T, B^T = (Q R)^T, b and r s, all of f(x) = x + B tanh(A x + b)."""
        entries, s, b, q = torch.split(raw, self.sizes, dim=-1)
        entries = entries.reshape(*raw.shape[:-1], self.num_units, self.num_units)
        r, s = LARGEST * entries.diagonal(dim1=-2, dim2=-1).tanh(), LARGEST * s.tanh()
        upper = entries.triu(1) + r.diag_embed()
        lower = entries.tril(-1) + s.diag_embed()  # of S^T
        if self.variant == "triangular":
            return lower, upper.mT, b, r * s
        q = q.reshape(*raw.shape[:-1], self.sizes[3] // self.dim, self.dim)
        q = gram_schmidt(q.mT) if self.variant == "orthogonal" else self._reflected(q)
        return q @ lower, (q @ upper).mT, b, r * s

    def _reflected(self, v: Tensor) -> Tensor:
        """The first M columns of the product of reflections at planes (..., H, D)."""
        v = v / v.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        q = torch.eye(self.dim, self.num_units, dtype=v.dtype, device=v.device)
        for one in v.unsqueeze(-1).unbind(-3):
            q = q - 2 * one @ (one.mT @ q)
        return q

    def push(self, x: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        u, bend = super().push(x.flip(-1) if self.flipped else x, *vectors)
        return (u.flip(-1) if self.flipped else u), bend

    def pull(self, u: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = super().pull(u.flip(-1) if self.flipped else u, *vectors)
        return (x.flip(-1) if self.flipped else x), log_det


def gram_schmidt(matrix: Tensor) -> Tensor:
    """Orthonormal columns that span what the columns of (..., D, M) do, one after the other."""
    q, r = torch.linalg.qr(matrix)
    signed: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)  # so that it is smooth
    return signed


def sylvester(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 16,
    num_hidden: int = 8,
    variant: str = "householder",
    num_reflections: int = 8,
) -> list[Transform]:
    """`num_flows` Sylvester layers, which start near the identity; sampling takes a solver.

    A layer has `num_hidden` units, but not more than coordinates (triangular: as many as those).
    Raises ValueError for points that are not vectors.
    """
    dim = vector_size(shape)
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    units = dim if variant == "triangular" else min(num_hidden, dim)
    turns = [variant == "triangular" and i % 2 == 1 for i in range(num_flows)]
    return [Sylvester(dim, units, context, variant, num_reflections, turn) for turn in turns]
