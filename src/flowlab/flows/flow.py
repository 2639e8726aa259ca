"""A density: a base density seen through a chain of transforms."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from flowlab.flows.transform import Transform
from flowlab.flows.units import Units

CHUNK = 8192  # points that are taken at once: more leave the cache
NUMBERS = 2**19  # of all points that are taken at once, so of large ones fewer

Progress = Callable[[Sequence[slice]], Iterable[slice]]


class StandardNormal(nn.Module):
    """The base density N(0, I) of vectors of D numbers.

    log p(u) = -1/2 (D log 2 pi + |u|^2)

    The mean is a buffer, so that samples are drawn on the flow's device and in its precision.
    """

    loc: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.log_normalizer = 0.5 * dim * math.log(2 * math.pi)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log-density in nats: (..., D) -> (...)."""
        return -0.5 * u.square().sum(-1) - self.log_normalizer

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points: (n, D)."""
        shape = (n, *self.loc.shape)
        return torch.randn(shape, generator=generator, device=self.loc.device, dtype=self.loc.dtype)


class Flow(nn.Module):
    """A density, or one for each context c: a standard normal seen through a chain of transforms.

    log p(x | c) = log N(f(x; c); 0, I) + log|det df/dx|,  f = f_K o ... o f_1  (data to base)

    Shapes: x (..., *shape) with any leading shape, (0, *shape) included; latents u (..., D), one
    vector of the D numbers of a point; a context (..., C) for flows that have one, whose leading
    shape broadcasts against that of the points; densities and log-determinants (...), in nats.
    Other shapes raise ValueError. Outside autograd `log_prob` and `sample` take many points in
    chunks of `chunk`, so that they need little memory beside the result; `progress` may wrap the
    sequence of chunks, as `tqdm.tqdm` does.

    A flow whose first transform is `Units` takes points, and their contexts, in units of their own,
    in float32 or float64, and its samples are float64, unless they are images; densities have the
    type of the weights.

    `config` is the plain dictionary from which `build_flow` made the flow; it travels with its
    weights.

    Reference: Papamakarios et al., "Normalizing Flows for Probabilistic Modeling and Inference",
    JMLR 22(57), 2021, eqs. (2) and (6).

    >>> from flowlab.flows import build_flow
    >>> flow = build_flow("coupling", 2, num_flows=4)
    >>> x = flow.sample(5)
    >>> flow.log_prob(x).shape
    torch.Size([5])
    >>> u, log_det = flow(x)  # and back: x, log_det = flow.inverse(u)
    >>> flow = build_flow("coupling", 2, context=3)
    >>> flow.sample(5, context=torch.zeros(7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(self, transforms: Sequence[Transform], shape: tuple[int, ...], context: int = 0):
        super().__init__()
        self.chain = nn.ModuleList(transforms)
        self.shape = shape
        self.dim = math.prod(shape)
        self.base = StandardNormal(self.dim)
        self.context = context
        self.config: dict[str, Any] = {}

    @property
    def transforms(self) -> list[Transform]:
        """The layers, in the order of `forward`."""
        return [layer for part in self.chain for layer in cast(Transform, part).layers()]

    @property
    def chunk(self) -> int:
        """How many points are taken at once outside autograd."""
        return max(1, min(CHUNK, NUMBERS // self.dim))

    @property
    def generates(self) -> bool:
        """Whether base to data has a formula throughout, and needs neither solvers nor D passes."""
        return all(cast(Transform, transform).generates for transform in self.chain)

    @property
    def units(self) -> Units | None:
        """The transform that takes the data's units away, if these have any."""
        first = self.chain[0]
        return first if isinstance(first, Units) else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to base: x (..., *shape) -> u (..., D), log|det du/dx| (...)."""
        x, context, leading = self._flatten(x, context, self.shape)
        u, log_det = self._forward(x, context)
        return u.reshape(*leading, self.dim), log_det.reshape(leading)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base to data: u (..., D) -> x (..., *shape), log|det dx/du| (...)."""
        u, context, leading = self._flatten(u, context, (self.dim,))
        x, log_det = self._inverse(u, context)
        return x.reshape(*leading, *self.shape), log_det.reshape(leading)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Log-density of data points in nats: (..., *shape) -> (...)."""
        x, context, leading = self._flatten(x, context, self.shape)
        if torch.is_grad_enabled() or len(x) <= self.chunk:
            return self._log_prob(x, context).reshape(leading)
        out = self.base.loc.new_empty(len(x))
        return self._in_chunks(self._log_prob, x, context, out, progress).reshape(leading)

    @torch.no_grad()
    def fit(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let each layer set what data decide, given what reaches it from points x.

        That is all of them for `Units`, and of more than `chunk` points the first for `ActNorm`.
        """
        x, context, _ = self._flatten(x, context, self.shape)
        if self.units is not None:
            self.units.fit(x, context)
        x, context = x[: self.chunk], None if context is None else context[: self.chunk]
        context = self.without_units(context)
        if any(type(transform).fit is not Transform.fit for transform in self.chain):  # type: ignore[attr-defined]
            for transform in self.chain:
                if not isinstance(transform, Units):
                    cast(Transform, transform).fit(x, context)
                x, _ = transform(x, context)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draw n points, (n, *shape), or for each context (..., C), (n, ..., *shape).

        It is done outside autograd; a generator in the same state gives the same points.
        """
        leading = (n,) if context is None else (n, *context.shape[:-1])
        u = self.base.sample(math.prod(leading), generator).reshape(*leading, self.dim)
        u, context, leading = self._flatten(u, context, (self.dim,))
        if len(u) <= self.chunk:
            x, _ = self._inverse(u, context)
        else:
            has_units = self.units is not None and self.units.standardize is not None
            out = u.double() if has_units else u
            x = self._in_chunks(lambda u, c: self._inverse(u, c)[0], u, context, out, progress)
        return x.reshape(*leading, *self.shape)

    def without_units(self, context: Tensor | None) -> Tensor | None:
        """A context as the layers get it, (N, C): without its units, if it has any."""
        units = self.units
        if context is None or units is None or units.context is None:
            return context
        standardized: Tensor = units.context(context)[0]
        return standardized

    def _forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_dets, context = [], self.without_units(context)
        for transform in self.chain:
            x, log_det = transform(x, context)
            log_dets.append(log_det)
        return x, _total(log_dets)

    def _inverse(self, u: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_dets, context = [], self.without_units(context)
        for transform in reversed(self.chain):
            u, log_det = cast(Transform, transform).inverse(u, context)
            log_dets.append(log_det)
        return u, _total(log_dets)

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        u, log_det = self._forward(x, context)
        return self.base.log_prob(u) + log_det

    def _flatten(
        self, x: Tensor, context: Tensor | None, shape: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """Points of a shape as vectors (N, D), context (N, C), and the leading shape of both."""
        leading: tuple[int, ...] = x.shape[: max(x.dim() - len(shape), 0)]
        if x.shape[len(leading) :] != shape:
            sizes = ", ".join(map(str, shape))
            raise ValueError(f"expected points (..., {sizes}), got shape {tuple(x.shape)}")
        if (context is not None) != (self.context > 0):
            expected = f"a context (..., {self.context})" if self.context else "no context"
            raise ValueError(f"this flow needs {expected}")
        if context is not None:
            leading = self._broadcast(x, context, leading)
            context = context.expand(*leading, -1).reshape(-1, self.context)
            x = x.expand(*leading, *shape)
        return x.reshape(-1, self.dim), context, leading

    def _broadcast(self, x: Tensor, context: Tensor, leading: tuple[int, ...]) -> tuple[int, ...]:
        """The leading shape of points and context together."""
        got = tuple(context.shape)
        if got[-1:] != (self.context,):
            raise ValueError(f"expected a context (..., {self.context}), got shape {got}")
        try:
            shape: tuple[int, ...] = torch.broadcast_shapes(leading, got[:-1])  # type: ignore[no-untyped-call]
        except RuntimeError:
            message = f"points {tuple(x.shape)} and context {got} do not broadcast"
            raise ValueError(message) from None
        return shape

    def _in_chunks(
        self,
        function: Callable[[Tensor, Tensor | None], Tensor],
        x: Tensor,
        context: Tensor | None,
        out: Tensor,
        progress: Progress | None,
    ) -> Tensor:
        """function(x, context), taken in chunks and written to `out`, which may be x."""
        chunks = [slice(i, i + self.chunk) for i in range(0, len(x), self.chunk)]
        for chunk in chunks if progress is None else progress(chunks):
            out[chunk] = function(x[chunk], None if context is None else context[chunk])
        return out


def _total(log_dets: list[Tensor]) -> Tensor:
    return sum(log_dets[1:], start=log_dets[0])
