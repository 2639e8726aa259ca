"""Invertible residual networks: each layer adds what moves less than its point does."""

import math

import torch
from torch import Tensor

from flowlab.flows.tangents import EXACT, Network, jacobian, pushed, run
from flowlab.flows.transform import OneWay, Transform, vector_size

FIXED_POINT = 6  # steps of the solver; then Jacobians, and steps of Newton's with each
NEWTON = {torch.float32: (2, 4), torch.float64: (3, 4)}


class Residual(OneWay):
    """One residual block on R^D, a network of two hidden layers of tanh units.

        f(x) = x + g(x),   g(x) = W3 tanh(W2 tanh(W1 x + b1) + b2) + b3
        log|det J| = log det(I + J_g(x)),   |W_i| <= c < 1

    Each weight is divided by max(1, |W| / c), |W| its largest singular value, found anew each time:
    so g is a contraction, its steps at most L = c^3 times those of x, and f is invertible. It moves
    no point by more than g's bound, and far out only shifts. A context adds to b1, without limit.

    The log-det is exact, by the whole Jacobian, for D up to `EXACT` and outside training. In it
    larger D have an unbiased estimate, and unbiased gradients, from one vector v of random signs:

        sum over k <= N of (-1)^(k+1) v.J^k v / (k P(N >= k)),   P(N >= k) = L^max(k - 2, 0)

    No term is more than D L^2 / k, so the variance is finite: below (D L^2 (2 + log N))^2 on
    average, and in practice 2 |J - diag J|_F^2 and little more. N is a random number of terms, the
    same for all points: so the estimate is not for vmap and compiles with a break.

    The point behind u is where x = u - g(x) stands still, polished by steps of Newton's, several
    with one Jacobian. Where such a step leads no nearer, one of the iteration x = u - g(x) does.

    Reference: Behrmann et al., "Invertible Residual Networks", ICML 2019, section 2; Chen et al.,
    "Residual Flows for Invertible Generative Modeling", NeurIPS 2019, eqs. (6) and (8), where N has
    P(N >= k) = 2^-(k - 2) whatever L is, and the variance need not be finite.
    """

    def __init__(self, dim: int, num_hidden: int, coefficient: float, context: int = 0):
        super().__init__()
        self.coefficient = coefficient
        self.estimates = dim > EXACT  # its log-det in training
        self.net = Network(dim, num_hidden, context, last=0.1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weights, biases = self._contraction(context)
        g, slopes = run(x, weights, biases)
        if self.estimates and self.training and torch.is_grad_enabled():
            return x + g, estimate(weights, slopes, self.coefficient**3)
        return x + g, log_det_of_one_plus(jacobian(weights, slopes))

    def solve(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        weights, biases = self._contraction(context)
        eye, x = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device), u
        for _ in range(FIXED_POINT):
            x = u - run(x, weights, biases)[0]
        failed = torch.zeros_like(u[:, :1], dtype=torch.bool)
        num_jacobians, num_steps = NEWTON[u.dtype]
        for _ in range(num_jacobians):
            g, slopes = run(x, weights, biases)
            error = x + g - u
            matrix = torch.linalg.inv_ex(eye + jacobian(weights, slopes).mT).inverse
            for _ in range(num_steps):
                newton = x - (matrix @ error.unsqueeze(-1)).squeeze(-1)
                other = torch.where(failed, u - g, newton)  # the first is nearer, always
                g_other = run(other, weights, biases)[0]
                error_other = other + g_other - u
                failed = ~(square(error_other) < square(error))
                x, g = torch.where(failed, x, other), torch.where(failed, g, g_other)
                error = torch.where(failed, error, error_other)
        return x

    def _contraction(self, context: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """The weights as they are used, and the biases given the context."""
        first, second, last = self.net.weights
        outer = spectral_norm(torch.stack((first, last.mT))).unbind()
        norms = outer[0], spectral_norm(second), outer[1]
        weights = [
            weight / (norm / self.coefficient).clamp(min=1)
            for weight, norm in zip(self.net.weights, norms, strict=True)
        ]
        return weights, self.net.shifted(context)


def square(x: Tensor) -> Tensor:
    """|x|^2: (N, D) -> (N, 1)."""
    return x.square().sum(-1, keepdim=True)


def spectral_norm(weight: Tensor) -> Tensor:
    """The largest singular values of matrices (..., n, m), exactly: (...).

    It is |W v| for the right singular vector v, kept constant: the gradient is exact, for |W v|
    does not change with v to the first order. Small ones take half the time of `matrix_norm`.
    """
    if weight.shape[-2] < weight.shape[-1]:
        weight = weight.mT
    with torch.no_grad():
        gram = (weight.mT @ weight).nan_to_num(0, 0, 0)
        v = torch.linalg.eigh(gram).eigenvectors[..., -1:]
    norm: Tensor = torch.linalg.vector_norm(weight @ v, dim=(-2, -1))
    return norm


def log_det_of_one_plus(matrix: Tensor) -> Tensor:
    """log|det(I + A)|: (N, D, D) -> (N,)."""
    if matrix.shape[-1] == 1:
        return matrix[:, 0, 0].log1p()
    if matrix.shape[-1] == 2:
        (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
        return torch.log1p(a + d + a * d - b * c)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    log_det: Tensor = torch.linalg.slogdet(eye + matrix).logabsdet
    return log_det


def estimate(weights: list[Tensor], slopes: list[Tensor], contraction: float) -> Tensor:
    """An unbiased estimate of log det(I + J) at each point, (N,)."""
    shape = len(slopes[0]), weights[-1].shape[0]
    v = torch.randint(2, shape).to(slopes[0]) * 2 - 1  # by the generator that a resume restores
    chance = 1 - torch.rand(()).item()  # in (0, 1]
    num_terms = 2 + math.floor(math.log(chance) / math.log(contraction))
    power, total = v, torch.zeros_like(v[:, 0])
    for k in range(1, num_terms + 1):
        power = pushed(power, weights, slopes)
        weight = (-1) ** (k + 1) / (k * contraction ** max(k - 2, 0))
        total = total + weight * (v * power).sum(-1)
    return total


def residual(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 16,
    num_hidden: int = 64,
    coefficient: float = 0.97,
) -> list[Transform]:
    """`num_flows` residual blocks of `num_hidden` units a layer, which start near the identity.

    `coefficient` is the largest spectral norm of a weight: the nearer to 1, the more each block can
    do, and the longer the search for the point behind. Raises ValueError for points that are not
    vectors.
    """
    dim = vector_size(shape)
    if not 0 < coefficient < 1:
        raise ValueError(f"coefficient must be between 0 and 1, got {coefficient}")
    return [Residual(dim, num_hidden, coefficient, context) for _ in range(num_flows)]
