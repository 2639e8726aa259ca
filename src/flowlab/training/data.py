"""The batches of a training, as indices of points, in an order that a resumed run has again."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from flowlab.data import Data, Points, dequantized
from flowlab.rng import generator

CHUNK_SIZE = 2048
EVAL_SIZE = 65_536  # points of all replicates together


class DataModule(pl.LightningDataModule):
    """Hands out the points of a data set, or of one for each replicate, on the trainer's device.

    What the training gets is a chunk of about `CHUNK_SIZE` indices, (n,) or (R, n) for R
    replicates, for several batches; `take` looks them up. Each epoch's order is drawn from
    (order_seed, epoch), so that a resumed run goes on with the order that it would have had.

    Training points of data with noise get it anew each epoch, drawn from (order_seed, epoch) too.

    All data sets have the same shape and numbers of points, and noise.
    """

    def __init__(self, sets: Sequence[Data], batch_size: int, order_seeds: Sequence[int]):
        super().__init__()
        self.sets = sets
        self.batch_size = batch_size
        self.order_seeds = order_seeds
        self.train = _stacked([data.train for data in sets])
        self.val = _stacked([data.val for data in sets])
        self.num_train, self.num_val = len(sets[0].train.x), len(sets[0].val.x)
        self.steps_per_epoch = math.ceil(self.num_train / batch_size)
        noise = sets[0].noise
        is_noisy = noise is not None and noise.any()
        # places in the vector of a point's numbers
        self.noisy = cast(Tensor, noise).flatten().nonzero().flatten() if is_noisy else None
        self.shares = torch.empty(0)  # of the steps of the noisy coordinates: (N, K) or (R, N, K)

    def of(self, replicate: int) -> Data:
        """The data of a replicate; all have the only set, if there is but one."""
        return self.sets[replicate % len(self.sets)]

    @property
    def facts(self) -> dict[str, Any]:
        """What the data say of themselves, of several the first."""
        return dict(self.sets[0].facts)

    def dequantized(self, replicate: int) -> Data:
        """The same with the noise of the first epoch, for what looks at the training points."""
        data = self.of(replicate)
        if self.noisy is None:
            return data
        shares = self._shares_of(self.order_seeds[replicate], epoch=0)
        return replace(data, train=self._dequantized(data.train, shares))

    def setup(self, stage: str) -> None:
        device = cast(pl.Trainer, self.trainer).strategy.root_device
        self.train, self.val = (p.map(lambda t: t.to(device)) for p in (self.train, self.val))
        self._draw_noise(epoch=0)

    def train_dataloader(self) -> "Indices":
        size = max(1, CHUNK_SIZE // self.batch_size) * self.batch_size
        return Indices(self.num_train, size, self._rest_of_epoch)

    def val_dataloader(self) -> "Indices":
        return Indices(self.num_val, self.eval_size, lambda: torch.arange(self.num_val))

    @property
    def eval_size(self) -> int:
        """How many points of each replicate are evaluated at once."""
        return max(1, EVAL_SIZE // len(self.order_seeds))

    def some(self, num: int) -> tuple[Tensor, ...]:
        """Chunks of the indices of at most `EVAL_SIZE` of so many points, from all over them."""
        index = torch.arange(most := min(num, EVAL_SIZE), device=self.train.x.device)
        return torch.split(index * num // most, self.eval_size)

    def take(self, points: Points, index: Tensor) -> Points:
        """Points at indices (n,) or (R, n); training points with the noise of their epoch."""
        taken = points.map(lambda t: _at(t, index, stacked=len(self.sets) > 1))
        if self.noisy is None or points is not self.train:
            return taken
        return self._dequantized(taken, _at(self.shares, index, stacked=self.shares.dim() > 2))

    def order(self, epoch: int) -> Tensor:
        """The order in which an epoch visits the training points: (N,), or (R, N)."""
        generators = (generator("order", seed, epoch) for seed in self.order_seeds)
        orders = [torch.randperm(self.num_train, generator=g) for g in generators]
        return orders[0] if len(orders) == 1 else torch.stack(orders)

    def _rest_of_epoch(self) -> Tensor:
        epoch, done = divmod(cast(Any, self.trainer).lightning_module.step, self.steps_per_epoch)
        self._draw_noise(epoch)
        return self.order(epoch)[..., done * self.batch_size :]

    def _draw_noise(self, epoch: int) -> None:
        if self.noisy is not None:
            shares = [self._shares_of(seed, epoch) for seed in self.order_seeds]
            together = shares[0] if len(shares) == 1 else torch.stack(shares)
            self.shares = together.to(self.train.x.device)

    def _shares_of(self, seed: int, epoch: int) -> Tensor:
        """Which share of its step each noisy coordinate of each point gets: (N, K)."""
        size = self.num_train, len(cast(Tensor, self.noisy))
        return torch.rand(size, generator=generator("noise", seed, epoch))

    def _dequantized(self, points: Points, shares: Tensor) -> Points:
        """Points (..., *shape) with noise in the noisy ones of their coordinates."""
        noisy, width = cast(Tensor, self.noisy), cast(Tensor, self.sets[0].noise)
        noisy, width = noisy.to(shares.device), width.flatten()[noisy].to(shares.device)
        shape = self.sets[0].shape
        flat = Points(points.x.flatten(-len(shape)), points.context)
        x, context = flat.map(lambda t: t.expand(*shares.shape[:-1], -1))  # for each replicate
        x = x.clone()
        x[..., noisy] = dequantized(x[..., noisy], width, shares)
        return Points(x.reshape(*x.shape[:-1], *shape), context)


class Indices:
    """Chunks of an order of points, (..., size) each and the last maybe shorter."""

    def __init__(self, num: int, size: int, order: Callable[[], Tensor]):
        self.num, self.size, self.order = num, size, order

    def __len__(self) -> int:
        return math.ceil(self.num / self.size)

    def __iter__(self) -> Iterator[Tensor]:
        # a generator: Lightning calls iter() before a resumed run knows its step, next() after
        yield from torch.split(self.order(), self.size, dim=-1)


def _at(values: Tensor, index: Tensor, stacked: bool) -> Tensor:
    """Values (N, ...), or (R, N, ...) if they are stacked, at indices (n,) or (R, n)."""
    if not stacked:
        return values[index]
    if index.dim() == 1:
        return values[:, index]
    return values[torch.arange(len(index), device=index.device).unsqueeze(1), index]


def _stacked(points: Sequence[Points]) -> Points:
    if len(points) == 1:
        return points[0]
    x, contexts = zip(*points, strict=True)
    return Points(torch.stack(x), None if contexts[0] is None else torch.stack(contexts))
