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


class ConvNet(nn.Module):
    """Convolutions with ReLUs between them, over images with zeros around, the last one at zero.

    The others start as `torch.nn.Conv2d` does. `sizes` are the channels from the input's to the
    output's, a context's numbers among the former, and `kernels` the odd sides of the kernels.

    Shapes: x (N, H, W, num_in - C) and, if C is not 0, a context (N, C) to (N, H, W, num_out).
    """

    def __init__(self, sizes: Sequence[int], kernels: Sequence[int]):
        super().__init__()
        layers = zip(pairwise(sizes), kernels, strict=True)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(m, n, kernel, padding=kernel // 2) for (m, n), kernel in layers
        )
        for parameter in self.convolutions[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if context is not None:
            everywhere = context[:, None, None].expand(*x.shape[:-1], context.shape[-1])
            x = torch.cat((x, everywhere), dim=-1)
        h = x.permute(0, 3, 1, 2)
        for convolution in self.convolutions[:-1]:
            h = convolution(h).relu_()
        out: Tensor = self.convolutions[-1](h)
        return out.permute(0, 2, 3, 1)
