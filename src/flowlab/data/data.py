"""What a data set is, wherever it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowlab.targets import Conditional, Target

Support = str | tuple[float, float] | None  # of a coordinate: "positive", (low, high), anywhere


class Points(NamedTuple):
    """Points x, (N, *shape), each with its context, (N, C), if they have any."""

    x: Tensor
    context: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Points":
        """The same of x and, if there is one, of the context."""
        return Points(function(self.x), None if self.context is None else function(self.context))


@dataclass(frozen=True)
class Data:
    """Points to train on, to choose by and to test on, and the density behind them if it is known.

    `names` are the coordinates', as pictures show them, `context_names` those of the contexts.
    `support`, of data with units of their own, says for each coordinate where it can lie: None for
    anywhere, "positive", or (low, high); of images, {"levels": Q, "logit": a}, that their numbers
    are 0, ..., Q - 1 with noise of width 1. A flow then begins with what takes these units away.
    `kinds` has, of data from a file, "integer" or "float" for each coordinate and context.
    `noise` is the width, (*shape), of the uniform noise that training points get anew in each
    epoch; those of the other splits have theirs. `drawn` says whether there are
    points at all: of a density that can only be evaluated they are zeros. `facts` are for
    metrics.json.
    """

    train: Points
    val: Points
    test: Points
    names: tuple[str, ...]
    truth: Target | Conditional | None = None
    context_names: tuple[str, ...] = ()
    support: tuple[Support, ...] | Mapping[str, Any] | None = None
    noise: Tensor | None = None
    kinds: tuple[str, ...] = ()
    drawn: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a point."""
        return tuple(self.train.x.shape[1:])

    @property
    def levels(self) -> int | None:
        """Of images, how many values their numbers can have; None for other points."""
        return self.support["levels"] if isinstance(self.support, Mapping) else None

    @property
    def num_context(self) -> int:
        """How many numbers the context of a point has; 0 if it has none."""
        return 0 if self.train.context is None else self.train.context.shape[-1]

    @property
    def extent(self) -> float:
        """Half the side of the square around the origin that pictures show."""
        known: float | None = getattr(self.truth, "extent", None)
        return known or 1.1 * float(self.val.x.abs().max())


def dequantized(x: Tensor, width: Tensor, share: Tensor) -> Tensor:
    """Points x + width * share, for shares in [0, 1), of the type of x, and rounded to lie within.

    Strictly between x and x + width, for there a support may end; shapes are those that broadcast.

    >>> dequantized(torch.tensor([2.0, 2.0]), torch.tensor(1.0), torch.tensor([0.0, 0.25])).tolist()
    [2.000000238418579, 2.25]
    """
    least = torch.nextafter(x, torch.full_like(x, torch.inf))
    most = torch.nextafter(x + width.to(x), torch.full_like(x, -torch.inf))
    return (x + width.to(x) * share).clamp(least, most)
