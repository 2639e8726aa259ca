"""Radial flows: each layer draws the points towards a center, or drives them away."""

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlab.flows.amortised import Amortised, Vectors
from flowlab.flows.transform import Transform, vector_size

SMALLEST = 1e-3  # alpha, which keeps the slope at the center finite
MARGIN = 1e-3  # the least slope at the center, at 0 the layer would cease to be invertible


class Radial(Amortised):
    """One radial layer on R^D, with r = |x - z| the distance from its center z.

        f(x) = x + beta h (x - z),   h = 1 / (alpha + r)
        log|det J| = (D - 1) log(1 + beta h) + log(1 + alpha beta h^2)

    It is invertible if beta > -alpha, so both come from free parameters a and e:

        alpha = SMALLEST + softplus(a)
        beta = softplus(e + softplus^-1(alpha')) - alpha',   alpha' = (1 - MARGIN) alpha

    and the layer is the identity where e = 0. Given a context, (z, a, e) are an affine function of
    it. The way back has a formula: R = |u - z| is r (1 + beta h), so that r is the positive root of
    r^2 - p r - alpha R = 0 with p = R - alpha - beta, and x = z + (u - z) / (1 + beta h).

    Reference: Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    eqs. (13) and (14) and appendix A.2, which has no formula for the way back.
    """

    def __init__(self, dim: int, context: int = 0):
        super().__init__(
            torch.cat((torch.randn(dim), torch.zeros(1), 0.01 * torch.randn(1))), context
        )
        self.dim = dim

    def vectors(self, raw: Tensor) -> Vectors:
        """The center z, alpha and beta."""
        z, a, e = torch.split(raw, [self.dim, 1, 1], dim=-1)
        alpha = SMALLEST + F.softplus(a)
        most = (1 - MARGIN) * alpha  # of what beta may be below 0
        return z, alpha, F.softplus(e + most + torch.log(-torch.expm1(-most))) - most

    def push(self, x: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        z, alpha, beta = vectors
        away = x - z
        r = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
        return torch.addcmul(x, beta / (alpha + r), away), r

    def log_det(self, bend: Tensor, *vectors: Tensor) -> Tensor:
        _, alpha, beta = vectors
        h = (alpha + bend).reciprocal()
        across, along = torch.log1p(beta * h), torch.log1p(alpha * beta * h.square())
        return ((self.dim - 1) * across + along).squeeze(-1)

    def pull(self, u: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        z, alpha, beta = vectors
        away = u - z
        far = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
        p = far - alpha - beta
        q = (p.square() + 4 * alpha * far).sqrt()
        # the two forms of one root, each where it adds what is of one sign
        r = torch.where(p > 0, (p + q) / 2, 2 * alpha * far / (q - p.clamp(max=0)))
        x = z + away / (1 + beta / (alpha + r))
        return x, -self.log_det(r, *vectors)


def radial(shape: tuple[int, ...], context: int, *, num_flows: int = 32) -> list[Transform]:
    """`num_flows` radial layers, which start near the identity; both directions have formulas.

    Raises ValueError for points that are not vectors.
    """
    dim = vector_size(shape)
    return [Radial(dim, context) for _ in range(num_flows)]
