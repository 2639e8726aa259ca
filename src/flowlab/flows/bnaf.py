"""Block neural autoregressive flows: one masked network, increasing in each coordinate."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.flows.solve import find_root
from flowlab.flows.transform import OneWay, Transform, vector_size

LARGEST = 0.999  # share of the network in a layer; a new one has half of it


class BlockNAF(OneWay):
    """One block neural autoregressive layer on R^D, gated.

        u_i = (1 - q_i) x_i + q_i g_i(x_1, ..., x_i),   q = LARGEST / (1 + exp(-gate))
        log|det J| = sum of log(1 - q_i + q_i dg_i/dx_i)

    where g is a network of three layers with tanh between them and H hidden units for each
    coordinate. Its weights are matrices of D x D blocks: zero above the diagonal, positive on it.
    Their rows have the norm exp(s):

        W = exp(s) V / |V|,   V = exp(raw) on the diagonal, raw below it

    so g_i increases in x_i, and its slope is a product of the blocks on the diagonal and of the
    slopes of tanh. As tanh is bounded, g alone would not reach all of R, and the density of x would
    not integrate to one; with the gate u_i does, and its slope is at least 1 - q_i. So a slope of g
    that vanishes in floating point is right to rounding, and no logarithms of slopes are needed.

    A layer that is `flipped` takes the coordinates from the last to the first. A context enters the
    first layer, and decides nothing at the start. The point behind u is found one coordinate after
    the other: |g_i - bias_i| is at most the sum of the last layer's weights, which is a bracket.

    Reference: De Cao et al., "Block Neural Autoregressive Flow", UAI 2019, eqs. (6) to (12) and,
    for the gate, section 3.2.
    """

    def __init__(self, dim: int, num_hidden: int, context: int = 0, flipped: bool = False):
        super().__init__()
        self.dim, self.flipped = dim, flipped
        self.raws, self.scales, self.biases = (nn.ParameterList() for _ in range(3))
        for rows, columns in ((num_hidden, 1), (num_hidden, num_hidden), (1, num_hidden)):
            raw = torch.empty(dim * rows, dim * columns)
            self.raws.append(nn.init.xavier_uniform_(raw))
            self.scales.append(torch.rand(dim * rows).log())
            self.biases.append((2 * torch.rand(dim * rows) - 1) * (dim * columns) ** -0.5)
        self.gate = nn.Parameter(torch.zeros(dim))
        if context:
            self.slopes = nn.Parameter(torch.zeros(dim * num_hidden, context))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = x.flip(-1) if self.flipped else x
        weights, biases = self._layers(context)
        value, slope = x @ weights[0].mT + biases[0], self._diagonal(weights[0]).mT
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            value = value.tanh()
            bend = self._each(1 - value.square()).transpose(0, 1)
            value, slope = value @ weight.mT + bias, (slope * bend) @ self._diagonal(weight).mT
        gate = LARGEST * self.gate.sigmoid()
        u = torch.lerp(x, value, gate)
        log_det = torch.log1p(gate * (slope.squeeze(-1).mT - 1)).sum(-1)
        return (u.flip(-1) if self.flipped else u), log_det

    def solve(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        weights, biases = self._layers(context)
        gate = LARGEST * self.gate.sigmoid()
        inputs: list[list[Tensor]] = [[], [], []]  # of each layer, from the coordinates so far
        for i, goal in enumerate((u.flip(-1) if self.flipped else u).unbind(-1)):
            steps = []  # the weights of this coordinate, and what the others give
            for weight, bias, others in zip(weights, biases, inputs, strict=True):
                rows = self._blocks(weight)[i]
                offset = self._each(bias)[:, i]
                if others:
                    offset = offset + torch.cat(others, -1) @ rows[:, :i].flatten(1).mT
                steps.append((rows[:, i].mT, offset))
            x = self._root(goal.unsqueeze(-1), gate[i], steps)
            for layer, (weight, offset) in enumerate(steps):
                inputs[layer].append(x)
                x = (x @ weight + offset).tanh()
        x = torch.cat(inputs[0], -1)
        return x.flip(-1) if self.flipped else x

    def _root(self, u: Tensor, gate: Tensor, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Where one coordinate is u, given what the coordinates before it add to each layer."""
        (first, a), (second, b), (third, c) = steps

        def f(x: Tensor) -> Tensor:
            hidden = ((x @ first + a).tanh() @ second + b).tanh()
            return torch.lerp(x, hidden @ third + c, gate) - u

        middle, reach = u - gate * c, gate * third.sum()
        return find_root(f, (middle - reach) / (1 - gate), (middle + reach) / (1 - gate))

    def _layers(self, context: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """The weight and the bias, (n, rows), of each layer."""
        weights = [self._weight(*pair) for pair in zip(self.raws, self.scales, strict=True)]
        biases = [bias[None] for bias in self.biases]
        if context is not None:
            biases[0] = F.linear(context, self.slopes, self.biases[0])
        return weights, biases

    def _weight(self, raw: Tensor, scale: Tensor) -> Tensor:
        row = torch.arange(self.dim, device=raw.device).reshape(-1, 1, 1, 1)
        column, blocks = row.reshape(-1, 1), self._blocks(raw)
        below = torch.where(row > column, blocks, 0)
        v = torch.where(row == column, blocks.exp(), below).reshape(raw.shape)
        norm: Tensor = torch.linalg.vector_norm(v, dim=1)
        return v * (scale.exp() / norm).unsqueeze(1)

    def _blocks(self, weight: Tensor) -> Tensor:
        """A weight as blocks, (D, rows, D, columns)."""
        rows, columns = weight.shape
        return weight.reshape(self.dim, rows // self.dim, self.dim, columns // self.dim)

    def _diagonal(self, weight: Tensor) -> Tensor:
        """The blocks on the diagonal, (D, rows, columns)."""
        return self._blocks(weight).diagonal(dim1=0, dim2=2).movedim(-1, 0)

    def _each(self, values: Tensor) -> Tensor:
        """The units of each coordinate, (n, D, units)."""
        return values.reshape(len(values), self.dim, values.shape[-1] // self.dim)


def bnaf(
    shape: tuple[int, ...], context: int, *, num_flows: int = 2, num_hidden: int = 32
) -> list[Transform]:
    """`num_flows` gated block neural autoregressive layers, half a network at first.

    A layer has `num_hidden` units for each coordinate in each of its two hidden layers. Every
    second one takes the coordinates from the last to the first. Sampling takes a solver. Raises
    ValueError for points that are not vectors.
    """
    dim = vector_size(shape)
    return [BlockNAF(dim, num_hidden, context, flipped=i % 2 == 1) for i in range(num_flows)]
