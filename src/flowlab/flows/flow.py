"""The two ideas of a normalizing flow: an invertible transform, and a base density behind it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

CHUNK = 65_536  # points


class Transform(nn.Module, ABC):
    """An invertible map of R^D that knows how it changes volume.

    To implement one, subclass and write `forward` and `inverse`. Both work on any leading batch
    shape, return a new tensor (never write into their input) and the log|det J| of what they did,
    in nats.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalizing direction, data to base: (..., D) -> (..., D) and (...)."""

    @abstractmethod
    def inverse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Generating direction, base to data: (..., D) -> (..., D) and (...)."""


class StandardNormal(nn.Module):
    """The base density N(0, I) on R^D.

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
    """A density on R^D: a standard normal seen through a chain of transforms.

    log p(x) = log N(f(x); 0, I) + log|det df/dx|,  f = f_K o ... o f_1  (data to base)

    Shapes: x, u (..., D) with any leading shape, (0, D) included; densities and
    log-determinants (...), in nats. A last dimension other than D raises ValueError. Outside
    autograd `log_prob` and `sample` take many points in chunks of `CHUNK`, so that they need little
    memory beside the result, with a progress bar when it takes long.

    `config` is the plain dictionary from which `build_flow` made the flow; it travels with its
    weights.

    Reference: Papamakarios et al., "Normalizing Flows for Probabilistic Modeling and Inference",
    JMLR 22(57), 2021, eqs. (2) and (6).

    >>> from flowlab.flows import build_flow
    >>> flow = build_flow("coupling", dim=2, num_flows=4)
    >>> x = flow.sample(5)
    >>> flow.log_prob(x).shape
    torch.Size([5])
    >>> u, log_det = flow(x)  # and back: x, log_det = flow.inverse(u)
    """

    def __init__(self, transforms: Sequence[Transform], dim: int):
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.base = StandardNormal(dim)
        self.dim = dim
        self.config: dict[str, Any] = {}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data to base: x (..., D) -> u (..., D), log|det du/dx| (...)."""
        self._check(x)
        log_dets = []
        for transform in self.transforms:
            x, log_det = transform(x)
            log_dets.append(log_det)
        return x, _total(log_dets)

    def inverse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Base to data: u (..., D) -> x (..., D), log|det dx/du| (...)."""
        self._check(u)
        log_dets = []
        for transform in reversed(self.transforms):
            u, log_det = cast(Transform, transform).inverse(u)
            log_dets.append(log_det)
        return u, _total(log_dets)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of data points in nats: (..., D) -> (...)."""
        self._check(x)
        if torch.is_grad_enabled() or x.numel() <= CHUNK * self.dim:
            return self._log_prob(x)
        points = x.reshape(-1, self.dim)
        out = points.new_empty(len(points))
        return _in_chunks(self._log_prob, points, out).reshape(x.shape[:-1])

    def _log_prob(self, x: Tensor) -> Tensor:
        u, log_det = self.forward(x)
        return self.base.log_prob(u) + log_det

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n points, (n, D), outside autograd; a generator in the same state gives the same."""
        u = self.base.sample(n, generator)
        if n <= CHUNK:
            return self.inverse(u)[0]
        return _in_chunks(lambda u: self.inverse(u)[0], u, out=u)

    def _check(self, x: Tensor) -> None:
        if x.shape[-1:] != (self.dim,):
            raise ValueError(
                f"expected points with a last dimension of {self.dim}, got shape {tuple(x.shape)}"
            )


def _in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, out: Tensor) -> Tensor:
    """function(x), taken in chunks and written to `out`, which may be x."""
    from tqdm import tqdm

    chunks = zip(torch.split(x, CHUNK), torch.split(out, CHUNK), strict=True)
    bar = {"total": len(x), "unit": " points", "delay": 2, "leave": False, "disable": None}
    with tqdm(**bar) as progress:
        for chunk, place in chunks:
            place.copy_(function(chunk))
            progress.update(len(chunk))
    return out


def _total(log_dets: list[Tensor]) -> Tensor:
    return sum(log_dets[1:], start=log_dets[0])
