"""The Gaussian that a flow of data with units has to be better than."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from flowlab.data import Data, Points
from flowlab.flows.units import PIECE, Units


def gaussian_nll(data: Data) -> Tensor | None:
    """The NLL of each test point under a Gaussian fitted to the training points: (N,), in nats.

    It is that of maximum likelihood, with a full covariance S, and of what `Support` makes of the
    points, so that the NLL is in the data's own units too; given a context its mean is linear in
    it, with coefficients B:

        u = f(x),   -log q(x | c) = -log N(u; B c + b, S) - log|det df/dx|

    All in float64. None if S is singular, as that of fewer points than coordinates: there is no
    such density. None too for images, whose covariance is no rival of a flow.
    """
    if data.levels is not None:
        return None
    units = Units(data.support or (), data.num_context).double()
    units.fit(*data.train)
    squares = torch.stack([w.mT @ w for w, _ in _pieces(units, data.train)])
    second = squares.sum(0) / len(data.train.x)
    dim = data.train.x.shape[-1]
    cross, contexts = second[:dim, dim:], second[dim:, dim:]
    coefficients = cross @ torch.linalg.pinv(contexts, hermitian=True)  # b is 0: all are centred
    factor, failed = torch.linalg.cholesky_ex(second[:dim, :dim] - coefficients @ cross.mT)
    if failed:
        return None
    normal: Any = torch.distributions.MultivariateNormal(
        torch.zeros_like(factor[0]), scale_tril=factor
    )
    nll = [
        -normal.log_prob(w[:, :dim] - w[:, dim:] @ coefficients.mT) - log_det
        for w, log_det in _pieces(units, data.test)
    ]
    return torch.cat(nll)


def _pieces(units: Units, points: Points) -> Iterator[tuple[Tensor, Tensor]]:
    """Points and contexts beside them without their units, (n, D + C), and the log-dets, (n,)."""
    for start in range(0, len(points.x), PIECE):
        here = slice(start, start + PIECE)
        u, log_det = units(points.x[here])
        if points.context is not None and units.context is not None:
            u = torch.cat((u, units.context(points.context[here])[0]), dim=1)
        yield u, log_det
