"""The networks whose outputs are the parameters of a transform."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """An MLP with two hidden layers of ReLU units that starts by giving zero.

    The hidden layers start as `torch.nn.Linear` does, the last one at zero.

    Shapes: x (N, num_in - C) and, if C is not 0, a context (N, C) to (N, num_out).
    """

    def __init__(self, num_in: int, num_hidden: int, num_out: int):
        super().__init__()
        sizes = (num_in, num_hidden, num_hidden, num_out)
        self.weights, self.biases = new_layers(sizes)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return mlp(x, context, *self.weights, *self.biases)


def new_layers(sizes: Sequence[int]) -> tuple[nn.ParameterList, nn.ParameterList]:
    """Weights and biases of layers of units, as `torch.nn.Linear` starts, the last at zero."""
    weights = nn.ParameterList(torch.empty(n, m) for m, n in pairwise(sizes))
    biases = nn.ParameterList(torch.empty(n) for n in sizes[1:])
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        limit = 1 / math.sqrt(max(weight.shape[1], 1))
        nn.init.uniform_(weight, -limit, limit)
        nn.init.uniform_(bias, -limit, limit)
    nn.init.zeros_(weights[-1])
    nn.init.zeros_(biases[-1])
    return weights, biases


def mlp(
    x: Tensor,
    context: Tensor | None,
    w1: Tensor,
    w2: Tensor,
    w3: Tensor,
    b1: Tensor,
    b2: Tensor,
    b3: Tensor,
) -> Tensor:
    """The formula of `MLP`."""
    inputs = x if context is None else torch.cat((x, context), dim=-1)
    hidden = F.linear(inputs, w1, b1).relu_()
    hidden = F.linear(hidden, w2, b2).relu_()
    return F.linear(hidden, w3, b3)
