"""The data's own units: the first transforms of a flow, which take them away and give them back."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowlab.flows.pixels import Pixels, checked_pixels
from flowlab.flows.transform import Transform

PIECE = 8192  # points that are looked at at once
LEAST = math.nextafter(0, 1)  # of what is positive


class Support(Transform):
    """Coordinates that cannot lie everywhere, mapped to the whole line, each by itself.

        "positive":   u = log x,                            log u' = -log x
        [low, high]:  u = log(x - low) - log(high - x),     log u' = log(high - low)
                                                                     - log(x - low) - log(high - x)

    A coordinate whose support is None stays as it is. Outside of its support, and on its edge, the
    log-det is minus infinity, and with it the log-density; what `inverse` gives lies strictly
    within, however far out u is. Both work in float64, whatever the type of what they get.

    >>> x, log_det = Support(["positive", [0, 10]]).inverse(torch.zeros(1, 2))
    >>> x
    tensor([[1., 5.]], dtype=torch.float64)
    """

    order: Tensor
    back: Tensor

    def __init__(self, support: Sequence[Any]):
        super().__init__()
        kinds = [None if entry is None else isinstance(entry, str) for entry in support]
        groups = [[i for i, k in enumerate(kinds) if k is kind] for kind in (None, True, False)]
        self.sizes = [len(group) for group in groups]
        order = torch.tensor([i for group in groups for i in group])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        # plain numbers, for a buffer would be rounded to the precision of the weights
        ends = [[float(end) for end in support[i]] for i in groups[2]]
        self.ends = [[low for low, _ in ends], [high for _, high in ends]]
        self.inner = [
            [math.nextafter(low, math.inf) for low in self.ends[0]],
            [math.nextafter(high, -math.inf) for high in self.ends[1]],
        ]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        free, positive, between = self._split(x)
        low, high = _numbers(self.ends, x)
        outside = positive <= 0, (between <= low) | (between >= high)
        # 1 in the place of what has no logarithm
        log = torch.where(outside[0], 1.0, positive).log()
        above = torch.where(outside[1], 1.0, between - low).log()
        below = torch.where(outside[1], 1.0, high - between).log()
        log_slopes = torch.cat((-log, (high - low).log() - above - below), dim=-1)
        log_slopes = torch.where(torch.cat(outside, dim=-1), -math.inf, log_slopes)
        return self._join(free, log, above - below), log_slopes.sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        free, log, logit = self._split(u)
        low, high = _numbers(self.ends, u)
        positive = log.clamp(max=math.log(sys.float_info.max)).exp().clamp(min=LEAST)
        between = (low + (high - low) * logit.sigmoid()).clamp(*_numbers(self.inner, u))
        log_slopes = (high - low).log() + logsigmoid(logit) + logsigmoid(-logit)
        return self._join(free, positive, between), log.sum(-1) + log_slopes.sum(-1)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The coordinates of each kind, in float64: free, positive, and between two numbers."""
        return torch.split(x[..., self.order].double(), self.sizes, dim=-1)

    def _join(self, *kinds: Tensor) -> Tensor:
        return torch.cat(kinds, dim=-1)[..., self.back]


class Standardize(Transform):
    """Each coordinate less its mean, in units of its standard deviation.

        u = (x - mean) / scale,   log|det J| = -sum of log scale

    The mean is held as the sum of two numbers and subtracted in float64, so that nothing is lost of
    a spread that is small beside it, as that of times in seconds is. u has the type of the buffers,
    which is the weights', and what `inverse` gives is float64. `fit` sets mean and scale; before it
    they are 0 and 1. The scale of a coordinate that is constant is 1.
    """

    high: Tensor
    low: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.register_buffer("high", torch.zeros(*shape))
        self.register_buffer("low", torch.zeros(*shape))
        self.register_buffer("scale", torch.ones(*shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = (x.double() - self._mean()) / self.scale.double()
        return u.to(self.scale), -self.scale.log().sum().expand(len(x))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = u.double() * self.scale.double() + self._mean()
        return x, self.scale.log().sum().expand(len(u))

    def fit(self, x: Tensor, context: Tensor | None = None) -> None:
        self.fit_to(iter([x]))

    @torch.no_grad()
    def fit_to(self, pieces: Iterator[Tensor]) -> None:
        """Set mean and standard deviation to those of all points of some pieces, in float64.

        Reference: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances", 1979, eqs. (2.1): the moments of pieces put together.
        """
        first = mean = squares = torch.zeros_like(self.scale, dtype=torch.float64)
        total = 0
        for piece in pieces:
            if not total:
                first = piece[0].double()  # from here on all is relative to it: 0 if constant
            variance, middle = torch.var_mean(piece.double() - first, dim=0, correction=0)
            n, total = len(piece), total + len(piece)
            step = middle - mean
            squares = squares + n * variance + step.square() * (n * (total - n) / total)
            mean = mean + step * (n / total)
        mean, scale = first + mean, (squares / total).sqrt().to(self.scale)
        self.high.copy_(mean)
        self.low.copy_(mean - self.high.double())
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def _mean(self) -> Tensor:
        return self.high.double() + self.low.double()


class Units(Transform):
    """What a flow of data with units begins with: `Support`, if any is bounded, and `Standardize`.

    `support` has None, "positive" or [low, high] for each coordinate; or it is the keywords of
    `Pixels`, which of images is all there is. Points may be float32 or float64; u and both log-dets
    have the type of the weights, and points that `inverse` gives are float64, unless they are
    images. The units of a context of C numbers are taken away by `context`, which the flow asks.
    """

    def __init__(self, support: Sequence[Any] | Mapping[str, Any], context: int):
        super().__init__()
        self.support: Support | Pixels | None = None
        self.standardize: Standardize | None = None
        if isinstance(support, Mapping):
            self.support = Pixels(**support)
        else:
            if any(entry is not None for entry in support):
                self.support = Support(support)
            self.standardize = Standardize([len(support)])
        self.context = Standardize([context]) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, *others = self.layers()
        u, log_det = first(x)
        for layer in others:
            u, more = layer(u)
            log_det = log_det + more
        return u, log_det.to(u)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *others, last = self.layers()
        x, log_det = last.inverse(u)
        for layer in reversed(others):
            x, more = layer.inverse(x)
            log_det = log_det + more
        return x, log_det.to(u)

    def fit(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set means and scales to those of all points, (N, D), and contexts, (N, C), in pieces."""
        if self.standardize is not None:
            pieces = (x[i : i + PIECE] for i in range(0, len(x), PIECE))
            if self.support is not None:
                pieces = (piece for piece, _ in map(self.support, pieces))
            self.standardize.fit_to(pieces)
        if self.context is not None and context is not None:
            self.context.fit_to(context[i : i + PIECE] for i in range(0, len(x), PIECE))

    def layers(self) -> list[Transform]:
        return [part for part in (self.support, self.standardize) if part is not None]


def checked_support(support: Any, shape: Sequence[int]) -> list[Any] | dict[str, Any]:
    """A support as plain lists and numbers; raises ValueError if it is none of such points."""
    if isinstance(support, Mapping):
        return checked_pixels(support)
    if len(shape) > 1 or not isinstance(support, list | tuple) or len(support) != shape[0]:
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"support must have an entry for each number of ({sizes}), got {support}")
    return [_checked(entry) for entry in support]


def _checked(entry: Any) -> Any:
    if entry is None or entry == "positive":
        return entry
    ends = entry if isinstance(entry, list | tuple) else ()
    plain = all(type(end) in (int, float) and abs(end) <= sys.float_info.max for end in ends)
    if plain and len(ends) == 2:
        low, high = map(float, ends)
        if math.nextafter(low, math.inf) < high and math.isfinite(high - low):
            return [low, high]
    raise ValueError(
        f'support of a coordinate must be null, "positive" or [low, high], got {entry!r}'
    )


def _numbers(values: list[list[float]], like: Tensor) -> tuple[Tensor, ...]:
    """Lists of numbers as float64 tensors, where another tensor is."""
    return torch.tensor(values, dtype=torch.float64, device=like.device).unbind()
