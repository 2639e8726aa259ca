"""The batches of a training, as indices of points, in an order that a resumed run has again."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from flowlab.data import Data, Points
from flowlab.rng import generator

CHUNK_SIZE = 2048
EVAL_SIZE = 65_536  # points of all replicates together


class DataModule(pl.LightningDataModule):
    """Hands out the points of a data set, or of one for each replicate, on the trainer's device.

    What the training gets is a chunk of about `CHUNK_SIZE` indices, (n,) or (R, n) for R
    replicates, for several batches; `take` looks them up. Each epoch's order is drawn from
    (order_seed, epoch), so that a resumed run goes on with the order that it would have had.

    All data sets have the same shape and numbers of points.
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

    def of(self, replicate: int) -> Data:
        """The data of a replicate; all have the only set, if there is but one."""
        return self.sets[replicate % len(self.sets)]

    def setup(self, stage: str) -> None:
        device = cast(pl.Trainer, self.trainer).strategy.root_device
        self.train, self.val = (p.map(lambda t: t.to(device)) for p in (self.train, self.val))

    def train_dataloader(self) -> "Indices":
        size = max(1, CHUNK_SIZE // self.batch_size) * self.batch_size
        return Indices(self.num_train, size, self._rest_of_epoch)

    def val_dataloader(self) -> "Indices":
        return Indices(self.num_val, self.eval_size, lambda: torch.arange(self.num_val))

    @property
    def eval_size(self) -> int:
        """How many points of each replicate are evaluated at once."""
        return max(1, EVAL_SIZE // len(self.order_seeds))

    def take(self, points: Points, index: Tensor) -> Points:
        """Points at indices (n,) or (R, n)."""
        if len(self.sets) == 1:
            return points.map(lambda t: t[index])
        if index.dim() == 1:
            return points.map(lambda t: t[:, index])
        rows = torch.arange(len(index), device=index.device).unsqueeze(1)
        return points.map(lambda t: t[rows, index])

    def order(self, epoch: int) -> Tensor:
        """The order in which an epoch visits the training points: (N,), or (R, N)."""
        generators = (generator("order", seed, epoch) for seed in self.order_seeds)
        orders = [torch.randperm(self.num_train, generator=g) for g in generators]
        return orders[0] if len(orders) == 1 else torch.stack(orders)

    def _rest_of_epoch(self) -> Tensor:
        epoch, done = divmod(cast(Any, self.trainer).lightning_module.step, self.steps_per_epoch)
        return self.order(epoch)[..., done * self.batch_size :]


class Indices:
    """Chunks of an order of points, (..., size) each and the last maybe shorter."""

    def __init__(self, num: int, size: int, order: Callable[[], Tensor]):
        self.num, self.size, self.order = num, size, order

    def __len__(self) -> int:
        return math.ceil(self.num / self.size)

    def __iter__(self) -> Iterator[Tensor]:
        # a generator: Lightning calls iter() before a resumed run knows its step, next() after
        yield from torch.split(self.order(), self.size, dim=-1)


def _stacked(points: Sequence[Points]) -> Points:
    if len(points) == 1:
        return points[0]
    x, contexts = zip(*points, strict=True)
    return Points(torch.stack(x), None if contexts[0] is None else torch.stack(contexts))
