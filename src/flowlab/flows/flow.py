"""A density: a base density seen through a chain of transforms."""

import math
import reprlib
from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from flowlab.flows.base import StandardNormal
from flowlab.flows.points import Numbers, as_tensor, flatten
from flowlab.flows.transform import Transform
from flowlab.flows.units import Units

CHUNK = 8192  # points that are taken at once: more leave the cache
USUAL = {"context": 0, "direction": "density"}
NUMBERS = 2**19  # of all points that are taken at once, so of large ones fewer

Progress = Callable[[Sequence[slice]], Iterable[slice]]


class Flow(nn.Module):
    """A density, or one for each context c: a standard normal seen through a chain of transforms.

    log p(x | c) = log N(f(x; c); 0, I) + log|det df/dx|,  f = f_K o ... o f_1  (data to base)

    Shapes: x (..., *shape) with any leading shape, (0, *shape) included; latents u (..., D), one
    vector of the D numbers of a point; a context (..., C) for flows that have one, whose leading
    shape broadcasts against that of the points; densities and log-determinants (...), in nats.
    Other shapes raise ValueError. Where no gradient is wanted `log_prob` and `sample` take many
    points in chunks of `chunk`, so that they need little memory beside the result; `progress` may
    wrap the sequence of chunks, as `tqdm.tqdm` does.

    Points, latents and contexts may be tensors, NumPy's arrays or nested lists of any real numbers:
    they are brought to the device and the type of the weights, which results have too. But if the
    first transform is `Units`, points and contexts, which then have units of their own, are taken
    in float32 or float64, as precisely as they come, and samples are float64; unless they are
    images.

    `config` is the plain dictionary from which `build_flow` made the flow; it travels with its
    weights.

    Reference: Papamakarios et al., "Normalizing Flows for Probabilistic Modeling and Inference",
    JMLR 22(57), 2021, eqs. (2) and (6).

    >>> from flowlab.flows import build_flow
    >>> flow = build_flow("coupling", 2, num_flows=4)
    >>> flow
    Flow('coupling', 2, num_flows=4, num_hidden=8, bound=1.0)
    >>> x = flow.sample(5)
    >>> flow.log_prob(x).shape
    torch.Size([5])
    >>> flow.log_prob([[0, 1], [2, 3]]).shape
    torch.Size([2])
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
        # whether points, and contexts, have units of their own, for which float32 may be too coarse
        units = self.units
        self.exact_points = units is not None and units.standardize is not None
        self.exact_context = units is not None and units.context is not None

    def __repr__(self) -> str:
        """One line; `chain` and `transforms` show the layers."""
        if not self.config:
            return super().__repr__()
        usual = {"name": self.config["name"], "shape": list(self.shape), **USUAL}
        size = self.dim if len(self.shape) == 1 else self.shape
        options = [f"{k}={reprlib.repr(v)}" for k, v in self.config.items() if v != usual.get(k)]
        return f"Flow({', '.join([repr(self.config['name']), str(size), *options])})"

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

    def forward(self, x: Numbers, context: Numbers | None = None) -> tuple[Tensor, Tensor]:
        """Data to base: x (..., *shape) -> u (..., D), log|det du/dx| (...)."""
        x, context, leading = self._taken(x, context)
        u, log_det = self._forward(x, context)
        return u.reshape(*leading, self.dim), log_det.reshape(leading)

    def inverse(self, u: Numbers, context: Numbers | None = None) -> tuple[Tensor, Tensor]:
        """Base to data: u (..., D) -> x (..., *shape), log|det dx/du| (...)."""
        u, context, leading = self._taken(u, context, latents=True)
        x, log_det = self._inverse(u, context)
        return x.reshape(*leading, *self.shape), log_det.reshape(leading)

    def log_prob(
        self, x: Numbers, context: Numbers | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Log-density of data points in nats: (..., *shape) -> (...)."""
        x, context, leading = self._taken(x, context)
        if len(x) <= self.chunk or self._in_autograd(x, context):
            return self._log_prob(x, context).reshape(leading)
        out = self.base.loc.new_empty(len(x))
        return self._in_chunks(self._log_prob, x, context, out, progress).reshape(leading)

    @torch.no_grad()
    def fit(self, x: Numbers, context: Numbers | None = None) -> None:
        """Let each layer set what data decide, given what reaches it from points x.

        That is all of them for `Units`, and of more than `chunk` points the first for `ActNorm`.
        """
        points, given, _ = self._taken(x, context)
        if self.units is not None:
            self.units.fit(points, given)
        points, given = points[: self.chunk], None if given is None else given[: self.chunk]
        given = self.without_units(given)
        if any(type(transform).fit is not Transform.fit for transform in self.chain):  # type: ignore[attr-defined]
            for transform in self.chain:
                if not isinstance(transform, Units):
                    cast(Transform, transform).fit(points, given)
                points, _ = transform(points, given)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Numbers | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draw n points, (n, *shape), or for each context (..., C), (n, ..., *shape).

        It is done outside autograd; a generator in the same state gives the same points. Raises
        TypeError for an n that is no whole number, and ValueError for one below zero.
        """
        if index(n) < 0:
            raise ValueError(f"n={n}: expected at least 0")
        context = self._taken_context(context)
        leading = (n,) if context is None else (n, *context.shape[:-1])
        u = self.base.sample(math.prod(leading), generator).reshape(*leading, self.dim)
        u, context, leading = self._taken(u, context, latents=True)
        if len(u) <= self.chunk:
            x, _ = self._inverse(u, context)
        else:
            out = u.double() if self.exact_points else u
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

    def _taken(
        self, x: Numbers, context: Numbers | None, latents: bool = False
    ) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """Points or latents as vectors (N, D), context (N, C), and the leading shape of both."""
        x = as_tensor(x, self.base.loc, self.exact_points and not latents)
        shape = (self.dim,) if latents else self.shape
        return flatten(x, self._taken_context(context), shape, self.context)

    def _taken_context(self, context: Numbers | None) -> Tensor | None:
        if context is None:
            return None
        return as_tensor(context, self.base.loc, self.exact_context)

    def _in_autograd(self, x: Tensor, context: Tensor | None) -> bool:
        """Whether a gradient may be wanted: under vmap, as in training, no tensor says so."""
        if not torch.is_grad_enabled() or self.training:
            return torch.is_grad_enabled()
        given = [x] if context is None else [x, context]
        return any(tensor.requires_grad for tensor in (*given, *self.parameters()))

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
