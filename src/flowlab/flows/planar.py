"""Planar flows: each layer pushes the points on one side of a hyperplane."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlab.flows.amortised import Vectors
from flowlab.flows.ridge import Ridge
from flowlab.flows.transform import Transform, vector_size

MARGIN = 1e-3  # how far w.u stays above -1, where the layer would cease to be invertible


class Planar(Ridge):
    """One planar layer on R^D.

        f(x) = x + v tanh(w.x + b),   log|det J| = log(1 + w.v (1 - tanh^2(w.x + b)))

    It is invertible if w.v > -1, so v is the free parameter u moved along w until it is:

        v = u + (m(w.u) - w.u) w / |w|^2,   m(a) = log(1 + exp(a + k)) - 1 + MARGIN

    with k such that m(0) = 0: the layer is the identity where u = 0. Given a context, (u, w, b) are
    an affine function of it, which starts as a constant. The point behind u' is found along w: with
    a = w.x, a + w.v tanh(a + b) = w.u' has one root, no farther from w.u' than |w.v|.

    Reference: Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    eqs. (10) to (12) and appendix A.1, whose |w| in v should be |w|^2 and whose m(0) is not 0.
    """

    def __init__(self, dim: int, context: int = 0):
        raw = torch.randn(2 * dim + 1)
        raw[:dim] *= 0.01
        super().__init__(raw, context)
        self.sizes = [dim, dim, 1]

    def vectors(self, raw: Tensor) -> Vectors:
        """The column w, the row v, b and w.v."""
        u, w, b = torch.split(raw, self.sizes, dim=-1)
        wu = (w * u).sum(-1, keepdim=True)
        wv = F.softplus(wu + math.log(math.expm1(1 - MARGIN))) - 1 + MARGIN
        square = w.square().sum(-1, keepdim=True).clamp(min=1e-12)
        v = u + (wv - wu) * w / square
        return w.unsqueeze(-1), v.unsqueeze(-2), b, wv


def planar(shape: tuple[int, ...], context: int, *, num_flows: int = 32) -> list[Transform]:
    """`num_flows` planar layers, which start near the identity; sampling takes a solver.

    Raises ValueError for points that are not vectors.
    """
    dim = vector_size(shape)
    return [Planar(dim, context) for _ in range(num_flows)]
