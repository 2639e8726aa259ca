"""What a flow is made of: invertible maps that know how they change volume."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """An invertible map of vectors that knows how it changes volume.

    To implement one, subclass and write `forward` and `inverse`. Both take points (N, D) and, if
    the map depends on one, a context (N, C); leading shapes, broadcasting and chunks are the flow's
    business. Both return a new tensor (never write into their input) and the log|det J| of what
    they did, (N,), in nats. An image is the vector of its numbers; `Level` sees it as one again.
    `generates` says whether `inverse` has a formula too, and costs about as much as `forward`.
    """

    generates = True

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalizing direction, data to base: (N, D) -> (N, D) and (N,)."""

    @abstractmethod
    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Generating direction, base to data: (N, D) -> (N, D) and (N,)."""

    def fit(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what data decide, before training, given the points that `forward` will get.

        Layers without such a thing, and layers turned round, leave it at that.
        """

    def layers(self) -> list["Transform"]:
        """The layers that it consists of, in the order of `forward`: one, unless it says more."""
        return [self]


class Inverse(Transform):
    """A transform turned round: its `forward` is the other's `inverse`."""

    def __init__(self, transform: Transform):
        super().__init__()
        self.transform = transform
        # what `inverse` does is the other's `forward`, which has a formula unless turned round too
        self.generates = not isinstance(transform, Inverse) or transform.transform.generates

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, context)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.transform(u, context)
        return result

    def layers(self) -> list[Transform]:
        return [Inverse(layer) for layer in reversed(self.transform.layers())]


class OneWay(Transform):
    """A transform with a formula for one direction, `forward`; the other is found by a solver.

    To implement one, write `forward` and `solve`. `inverse` gives the x whose `forward` is u to the
    rounding of floating point, and minus the log-det of `forward` there. Within autograd that
    x is tied to u, the context and the parameters by a Newton step, whose value is nil:

        x - J(x)^-1 (f(x) - u),   x and J = df/dx as constants

    which gives the gradients of the implicit function theorem, at the cost of J and of a solve with
    it. They are exact; derivatives of a second order through `inverse` are not.
    """

    generates = False

    @abstractmethod
    def solve(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """The x for which `forward` gives u, (N, D), by a solver of `flowlab.flows.solve`."""

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            x = self.solve(u, context)
        if torch.is_grad_enabled():  # under vmap no tensor says whether it requires one
            x = self._tied(x, u, context)
        return x, -self(x, context)[1]

    def _tied(self, x: Tensor, u: Tensor, context: Tensor | None) -> Tensor:
        """The same x, with the derivatives of the point behind u."""
        with torch.no_grad():
            # points do not see each other: of a sum over them each has its own part
            jacobian = torch.func.jacrev(lambda x: self(x, context)[0].sum(0).flatten())(x)
            jacobian = jacobian.flatten(2).transpose(0, 1)
        residual = self(x, context)[0] - u
        residual = (residual - residual.detach()).flatten(1)
        step: Tensor = torch.linalg.solve_ex(jacobian, residual.unsqueeze(-1)).result
        return x - step.reshape(x.shape)


class ShapeError(ValueError):
    """Points of a kind that a flow cannot have."""


def vector_size(shape: tuple[int, ...]) -> int:
    """The D of a shape (D,). Raises ShapeError for the shape of what is no vector."""
    if len(shape) > 1:
        raise ShapeError(f"this flow is of vectors, a shape of one number, got {shape}")
    return shape[0]


def image_size(shape: tuple[int, ...], num_levels: int) -> tuple[int, int, int]:
    """The (H, W, C) of a shape (H, W, C), or (H, W) with C = 1.

    Raises ShapeError for the shape of what is no image, and ValueError for sides that cannot be
    halved as often as there are levels.
    """
    if not 2 <= len(shape) <= 3:
        raise ShapeError(f"this flow is of images, a shape (H, W) or (H, W, C), got {shape}")
    height, width, channels = (*shape, 1)[:3]
    if height % 2**num_levels or width % 2**num_levels:
        most = int(math.log2(math.gcd(height, width) & -math.gcd(height, width)))
        raise ValueError(
            f"num_levels={num_levels}: each halves the sides of an image, and {height} x {width} "
            f"can be halved {most} times"
        )
    return height, width, channels
