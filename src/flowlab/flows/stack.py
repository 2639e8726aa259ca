"""Layers in the fast lane: the same layers, with what they share paid for once."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

from flowlab.flows.amortised import Amortised, AmortisedStack
from flowlab.flows.autoregressive import Autoregressive
from flowlab.flows.coupling import Coupling, join, split
from flowlab.flows.made import MADE, MaskedNet, Masks
from flowlab.flows.nets import MLP, mlp
from flowlab.flows.transform import Inverse, Transform


class CouplingStack(Transform):
    """Coupling layers that follow each other, as one transform; `layers` hands them out again.

    Their MLPs' weights of one shape are one parameter, (layers, ...): what autograd and the
    optimizer spend on a tensor they spend once. A point is split into its halves and joined again
    once, and all log-slopes are summed once. Without it a training step takes 1.4 times as long
    (4 layers of 8 units in the plane, batches of 64) or 1.25 times (6 of 64 units in 16 dimensions,
    batches of 512), and `log_prob` and `sample` 1.6 and 1.4 times.
    """

    def __init__(self, layers: Sequence[Coupling]):
        super().__init__()
        self.univariate = layers[0].univariate
        self.kept = [layer.kept for layer in layers]
        nets = [tuple(cast(MLP, layer.net).parameters()) for layer in layers]
        shapes = [tuple(weight.shape for weight in net) for net in nets]
        kinds = list(dict.fromkeys(shapes))
        self.kinds = [kinds.index(shape) for shape in shapes]
        self.weights = nn.ModuleList()
        for kind in kinds:
            alike = [net for net, shape in zip(nets, shapes, strict=True) if shape == kind]
            stacked = (torch.stack(tensors).detach() for tensors in zip(*alike, strict=True))
            self.weights.append(nn.ParameterList(stacked))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves, log_slopes = split(x), []
        for kept, net in zip(self.kept, self._nets(), strict=True):
            moved = 1 - kept
            parameters = mlp(halves[kept], context, *net)
            halves[moved], log_slope = self.univariate.forward(halves[moved], parameters)
            log_slopes.append(log_slope)
        return join(halves), torch.cat(log_slopes, dim=-1).sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves, log_slopes = split(u), []
        for kept, net in reversed(list(zip(self.kept, self._nets(), strict=True))):
            moved = 1 - kept
            parameters = mlp(halves[kept], context, *net)
            halves[moved], log_slope = self.univariate.inverse(halves[moved], parameters)
            log_slopes.append(log_slope)
        return join(halves), torch.cat(log_slopes, dim=-1).sum(-1)

    def layers(self) -> list[Transform]:
        """Each layer by itself, with views of its weights."""
        turns = zip(self.kept, self._nets(), strict=True)
        return [Coupling(_net(weights), self.univariate, kept) for kept, weights in turns]

    def _nets(self) -> list[tuple[Tensor, ...]]:
        """The weights of each layer's MLP, as `mlp` takes them."""
        stacks = [
            zip(*(weight.unbind() for weight in cast(nn.ParameterList, kind)), strict=True)
            for kind in self.weights
        ]
        return [next(stacks[kind]) for kind in self.kinds]


def _net(weights: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    return lambda x, context: mlp(x, context, *weights)


class AutoregressiveStack(Transform):
    """Autoregressive layers that follow each other, as one transform, as `CouplingStack` is.

    Their nets' weights are one parameter for each level, (layers, ...), and are masked at once.
    """

    generates = False

    def __init__(self, layers: Sequence[Autoregressive]):
        super().__init__()
        nets = [cast(MADE, layer.net) for layer in layers]
        self.univariate = layers[0].univariate
        self.wirings = [net.wiring for net in nets]
        self.weights, self.biases = (
            nn.ParameterList(torch.stack(tensors).detach() for tensors in zip(*lists, strict=True))
            for lists in ([net.weights for net in nets], [net.biases for net in nets])
        )
        masks = zip(*(net.masks.buffers() for net in nets), strict=True)
        self.masks = Masks([torch.stack(tensors) for tensors in masks])

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_slopes = []
        for net in self._nets():
            x, log_slope = self.univariate.forward(x, net(x, context))
            log_slopes.append(log_slope)
        return x, torch.cat(log_slopes, dim=-1).sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_slopes = []
        for net in reversed(self._nets()):
            u, log_slope = net.in_turn(u, context, self.univariate.inverse)
            log_slopes.append(log_slope)
        return u, torch.cat(log_slopes, dim=-1).sum(-1)

    def layers(self) -> list[Transform]:
        """Each layer by itself, with views of its weights."""
        return [Autoregressive(net, self.univariate) for net in self._nets()]

    def _nets(self) -> list[MaskedNet]:
        weights = zip(*(weight.unbind() for weight in self.masks.put_on(self.weights)), strict=True)
        biases = zip(*(bias.unbind() for bias in self.biases), strict=True)
        parts = zip(self.wirings, weights, biases, strict=True)
        return [MaskedNet(wiring, list(w), list(b)) for wiring, w, b in parts]


def stack(transforms: Sequence[Transform]) -> list[Transform]:
    """The same transforms, with layers of one kind that follow each other as one stack."""
    if all(isinstance(transform, Inverse) for transform in transforms):
        turned = [cast(Inverse, transform).transform for transform in reversed(transforms)]
        return [Inverse(transform) for transform in reversed(stack(turned))]
    stacked: list[Transform] = []
    for (kind, _), run in groupby(transforms, _kind):
        layers = list(run)
        stacked += layers if kind is None else [kind(layers)]
    return stacked


def _kind(transform: Transform) -> tuple[Callable[..., Transform] | None, object]:
    """The stack that a layer can be in, and what it must have in common with the others there."""
    if isinstance(transform, Coupling) and isinstance(transform.net, MLP):
        return CouplingStack, transform.univariate
    if isinstance(transform, Amortised):
        return AmortisedStack, (type(transform), transform.raw.shape)
    if isinstance(transform, Autoregressive) and isinstance(transform.net, MADE):
        return AutoregressiveStack, transform.univariate
    return None, None
