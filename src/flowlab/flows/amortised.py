"""Layers given by one vector of parameters: the same for all points, or one for each context."""

import copy
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.flows.transform import Transform

Vectors = tuple[Tensor, ...]


class Amortised(Transform):
    """A layer given by one vector of P numbers, which may be an affine function of the context.

        raw(c) = raw + slopes c,   slopes = 0 at the start

    To implement one, call `super().__init__(raw, context)` and write four functions of tensors:

        vectors(raw)            what the formula takes, which meets its constraints
        push(x, *vectors)       u, and what log_det needs of the way there
        log_det(bend, *vectors) of that, (N,)
        pull(u, *vectors)       the x for which push gives u, and minus the log_det there

    Shapes: points (N, D), raw (n, P), every vector and matrix (n, ...), where n is 1 if all points
    share them and else N. `vectors` and `log_det` are also given many layers at once, (K, n, ...).
    """

    raw: Tensor
    slopes: Tensor

    def __init__(self, raw: Tensor, context: int):
        super().__init__()
        self.raw = nn.Parameter(raw)
        if context:
            self.slopes = nn.Parameter(raw.new_zeros(*raw.shape, context))

    @abstractmethod
    def vectors(self, raw: Tensor) -> Vectors: ...

    @abstractmethod
    def push(self, x: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def log_det(self, bend: Tensor, *vectors: Tensor) -> Tensor: ...

    @abstractmethod
    def pull(self, u: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]: ...

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        vectors = self.given(context)
        u, bend = self.push(x, *vectors)
        return u, self.log_det(bend, *vectors)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.pull(u, *self.given(context))

    def given(self, context: Tensor | None) -> Vectors:
        if context is None:
            return self.vectors(self.raw[None])
        return self.vectors(F.linear(context, self.slopes, self.raw))


class AmortisedStack(Transform):
    """Layers of one kind that follow each other, as one transform; `layers` hands them out again.

    Their parameters are one tensor, (K, P): what does not depend on x is computed for all layers at
    once, and so are all log-dets from what the layers leave behind. Without it a training step
    takes 3 to 4 times as long (32 planar layers in the plane, batches of 64).
    """

    def __init__(self, layers: Sequence[Amortised]):
        super().__init__()
        self.raw = nn.Parameter(torch.stack([layer.raw.detach() for layer in layers]))
        if hasattr(layers[0], "slopes"):
            self.slopes = nn.Parameter(torch.stack([layer.slopes.detach() for layer in layers]))
        self.kinds = tuple(_without_parameters(layer) for layer in layers)
        self.generates = layers[0].generates

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        vectors, bends = self._vectors(context), []
        for kind, own in zip(self.kinds, _each(vectors), strict=True):
            x, bend = kind.push(x, *own)
            bends.append(bend)
        return x, self.kinds[0].log_det(torch.stack(bends), *vectors).sum(0)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        each, log_dets = _each(self._vectors(context)), []
        for kind, own in zip(self.kinds[::-1], each[::-1], strict=True):
            u, log_det = kind.pull(u, *own)
            log_dets.append(log_det)
        return u, torch.stack(log_dets).sum(0)

    def layers(self) -> list[Transform]:
        """Each layer by itself, with views of its parameters."""
        layers: list[Transform] = []
        for i, kind in enumerate(self.kinds):
            layer = copy.copy(kind)
            layer.raw = self.raw[i]
            if hasattr(self, "slopes"):
                layer.slopes = self.slopes[i]
            layers.append(layer)
        return layers

    def _vectors(self, context: Tensor | None) -> Vectors:
        """Those of all layers, (K, n, ...)."""
        if context is None:
            return self.kinds[0].vectors(self.raw[:, None])
        raw = F.linear(context, self.slopes.flatten(0, 1), self.raw.flatten())
        return self.kinds[0].vectors(raw.reshape(len(raw), *self.raw.shape).movedim(1, 0))


def _without_parameters(layer: Amortised) -> Amortised:
    kind = copy.copy(layer)
    kind._parameters = {}
    return kind


def _each(vectors: Vectors) -> list[Vectors]:
    return list(zip(*(vector.unbind() for vector in vectors), strict=True))
