"""Continuous flows: points drift along a field that a network gives."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowlab.flows.tangents import Network, affine
from flowlab.flows.transform import Transform, vector_size

FINER = 4  # times as many steps outside training


class Ffjord(Transform):
    """A point drifts for one unit of time, from data to base, or back from base to data.

        dx/dt = g(x, t),   d log|det J| / dt = tr dg/dx
        g = L3 tanh(L2 tanh(L1 x)),   L_i h = (W_i h + b_i) sigmoid(u_i t + c_i) + v_i t

    A field that is smooth and grows no faster than x never makes two points meet, so nothing is
    constrained. `num_steps` steps of the classical Runge-Kutta method approximate both equations
    alike: autograd goes through the steps, both directions have gradients of any order, and both
    err by a multiple of num_steps^-4, which differs, so there and back is near, not exact. A
    training may learn to err in its own favour: so outside it, in `eval` mode, there are `FINER`
    times as many steps, and a density is one.

    The trace is exact in any dimension. With a = W1 W3 and s the slopes of the units it is

        tr W3 diag(s2) W2 diag(s1) W1 = s2 . (W2 * a^T) s1,   * element by element

    which costs what one more hidden layer does, and no noise. A context adds to b1.

    Shapes: x, u (N, D), a context (N, C), log-dets (N,).

    Reference: Grathwohl et al., "FFJORD: Free-form Continuous Dynamics for Scalable Reversible
    Generative Models", ICLR 2019, eqs. (2) to (4), whose trace is estimated; section 4 for L_i.
    """

    def __init__(self, dim: int, num_hidden: int, num_steps: int, context: int = 0):
        super().__init__()
        self.num_steps = num_steps
        self.net = Network(dim, num_hidden, context, last=0.0)
        sizes = (num_hidden, num_hidden, dim)
        self.gates = nn.ParameterList(torch.stack((torch.randn(n), torch.zeros(n))) for n in sizes)
        self.drifts = nn.ParameterList(torch.zeros(n) for n in sizes)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        fields = self._fields(context)
        return integrate(x, fields, 2 / (len(fields) - 1))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        fields = self._fields(context)[::-1]
        return integrate(u, fields, -2 / (len(fields) - 1))

    def _fields(self, context: Tensor | None) -> list["Field"]:
        """The field at each time that a step looks at: its ends, and its middle."""
        like = self.drifts[0]
        count = 2 * self.num_steps * (1 if self.training else FINER) + 1
        t = torch.linspace(0, 1, count, dtype=like.dtype, device=like.device).unsqueeze(-1)
        weights, biases = [], []
        layers = zip(
            self.net.weights, self.net.shifted(context), self.gates, self.drifts, strict=True
        )
        for weight, bias, gate, drift in layers:
            scale = torch.sigmoid(gate[0] * t + gate[1])
            shift = drift * t
            if bias.dim() > 1:  # another for each context
                scale_of_bias, shift = scale.unsqueeze(1), shift.unsqueeze(1)
            else:
                scale_of_bias = scale
            weights.append(scale.unsqueeze(-1) * weight)
            biases.append(bias * scale_of_bias + shift)
        first, second, last = weights
        cross = second * (first @ last).mT
        tensors = (*weights, *biases, cross)
        return [Field(*parts) for parts in zip(*(x.unbind() for x in tensors), strict=True)]


class Field(NamedTuple):
    """Where to and how fast points drift at one time: two hidden layers of tanh units."""

    w1: Tensor
    w2: Tensor
    w3: Tensor
    b1: Tensor
    b2: Tensor
    b3: Tensor
    cross: Tensor  # W2 * (W1 W3)^T

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field at points, (N, D), and the trace of its Jacobian, (N,)."""
        first = torch.tanh(affine(x, self.w1, self.b1))
        second = torch.tanh(affine(first, self.w2, self.b2))
        trace = affine(first.square(), -self.cross, self.cross.sum(-1))  # cross (1 - first^2)
        trace = (trace * (1 - second.square())).sum(-1)
        return affine(second, self.w3, self.b3), trace


def integrate(x: Tensor, fields: list[Field], h: float) -> tuple[Tensor, Tensor]:
    """Where points drift to, and the integral of the trace, by the classical Runge-Kutta method."""
    ends: list[Tensor] = []
    middles: list[Tensor] = []
    for start, middle, end in zip(fields[:-1:2], fields[1::2], fields[2::2], strict=True):
        k1, trace1 = start.at(x)
        k2, trace2 = middle.at(torch.add(x, k1, alpha=h / 2))
        k3, trace3 = middle.at(torch.add(x, k2, alpha=h / 2))
        k4, trace4 = end.at(torch.add(x, k3, alpha=h))
        x = torch.add(x, k1 + 2 * (k2 + k3) + k4, alpha=h / 6)
        ends += trace1, trace4
        middles += trace2, trace3
    return x, h / 6 * (torch.stack(ends).sum(0) + 2 * torch.stack(middles).sum(0))


def ffjord(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 1,
    num_hidden: int = 64,
    num_steps: int = 8,
) -> list[Transform]:
    """`num_flows` continuous flows, one after the other, that start as the identity.

    Each has a network with two hidden layers of `num_hidden` units, which `num_steps` steps of four
    evaluations follow. Raises ValueError for points that are not vectors.
    """
    dim = vector_size(shape)
    return [Ffjord(dim, num_hidden, num_steps, context) for _ in range(num_flows)]
