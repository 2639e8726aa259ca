"""What a flow is made of: invertible maps that know how they change volume."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """An invertible map of points of one shape that knows how it changes volume.

    To implement one, subclass and write `forward` and `inverse`. Both take points (N, *shape) and,
    if the map depends on one, a context (N, C); leading shapes, broadcasting and chunks are the
    flow's business. Both return a new tensor (never write into their input) and the log|det J| of
    what they did, (N,), in nats.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalizing direction, data to base: (N, *shape) -> (N, *shape) and (N,)."""

    @abstractmethod
    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Generating direction, base to data: (N, *shape) -> (N, *shape) and (N,)."""

    def layers(self) -> list["Transform"]:
        """The layers that it consists of, in the order of `forward`: one, unless it says more."""
        return [self]


class Inverse(Transform):
    """A transform turned round: its `forward` is the other's `inverse`."""

    def __init__(self, transform: Transform):
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, context)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        value, log_det = self.transform(u, context)
        return value, log_det

    def layers(self) -> list[Transform]:
        return [Inverse(layer) for layer in reversed(self.transform.layers())]


class OneWay(Transform):
    """A transform with a formula for one direction, `forward`; the other is found by a solver.

    To implement one, write `forward` and `solve`. `inverse` gives the point whose `forward` is u to
    the rounding of floating point, and minus the log-det of `forward` there. Its gradient would be
    one through the solver: a backward pass that needs it raises RuntimeError.
    """

    @abstractmethod
    def solve(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """The x for which `forward` gives u, (N, *shape), by a solver of `flowlab.flows.solve`."""

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            x = self.solve(u, context)
            log_det = -self(x, context)[1]
        if not torch.is_grad_enabled():
            return x, log_det
        causes = (u, *(() if context is None else (context,)), *self.parameters())
        return _refuse_gradient(x, *causes), _refuse_gradient(log_det, *causes)


class _RefuseGradient(torch.autograd.Function):
    """The identity of its first argument, in a graph that cannot be gone back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, *causes: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            "no gradient goes through a solver: this flow has a formula for its other direction "
            "only; build it with the other `direction`, or call it under torch.no_grad()"
        )


def _refuse_gradient(value: Tensor, *causes: Tensor) -> Tensor:
    result: Tensor = _RefuseGradient.apply(value, *causes)  # type: ignore[no-untyped-call]
    return result


def vector_size(shape: tuple[int, ...]) -> int:
    """The D of a shape (D,). Raises ValueError for the shape of what is no vector."""
    if len(shape) > 1:
        raise ValueError(f"this flow is of vectors, a shape of one number, got {shape}")
    return shape[0]
