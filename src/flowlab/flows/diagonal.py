"""Scales and shifts of single coordinates: the normal with a diagonal covariance."""

import torch
from torch import Tensor

from flowlab.flows.amortised import Amortised, Vectors
from flowlab.flows.transform import Transform, vector_size


class Diagonal(Amortised):
    """Shifts and scales each coordinate by itself.

        f(x) = (x - m) exp(-l),   log|det J| = -sum l

    Starts as the identity. Given a context, m and l are an affine function of it: the posterior of
    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, eq. (9), up to its network.
    """

    def __init__(self, dim: int, context: int = 0):
        super().__init__(torch.zeros(2 * dim), context)
        self.dim = dim

    def vectors(self, raw: Tensor) -> Vectors:
        """The shifts m and the log-scales l."""
        return torch.split(raw, self.dim, dim=-1)

    def push(self, x: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = vectors
        u = (x - mean) * (-log_scale).exp()
        return u, u

    def log_det(self, bend: Tensor, *vectors: Tensor) -> Tensor:
        return -vectors[1].expand_as(bend).sum(-1)

    def pull(self, u: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = vectors
        return u * log_scale.exp() + mean, -self.log_det(u, *vectors)


def diagonal(shape: tuple[int, ...], context: int) -> list[Transform]:
    """One layer that scales and shifts each coordinate: a normal with independent coordinates.

    It is what others are measured against. Raises ValueError for points that are not vectors.
    """
    return [Diagonal(vector_size(shape), context)]
