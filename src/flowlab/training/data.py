"""The data: points drawn from a target, and batches of them."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import lightning.pytorch as pl
import torch
from torch import Generator, Tensor

from flowlab.rng import generator
from flowlab.targets import TARGETS

EVAL_BATCH_SIZE = 10_000
CHUNK_SIZE = 2048


class ToyData(pl.LightningDataModule):
    """Training, validation and test points drawn from a known target: (N, D) each.

    Each split has a generator of its own, from (seed, split), so that changing the number of
    training points leaves the test points alone. Without a seed the points follow `order_seed`, and
    replicates have points of their own, (replicates, N, D), as the runs of their seeds do.

    What the training gets is a chunk of batches, of about `CHUNK_SIZE` points, as one tensor, cut
    out of the whole; each epoch's order is drawn from (order_seed, epoch), so that a resumed run
    goes on with the order that it would have had. All points are on the device of the trainer, if
    there is one.

    Raises ValueError for a target that is not in `TARGETS`.
    """

    def __init__(
        self,
        target: str,
        num_train: int,
        num_val: int,
        num_test: int,
        batch_size: int,
        seed: int | None,
        order_seed: int,
        replicates: int = 1,
    ):
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; available: {', '.join(TARGETS)}")
        self.target = TARGETS[target]()
        self.batch_size = batch_size
        self.order_seeds = range(order_seed, order_seed + replicates)
        self.seeds = self.order_seeds if seed is None else [seed]
        self.train, self.val, self.test = (
            self._draw(n, [generator(f"data/{split}", seed) for seed in self.seeds])
            for split, n in (("train", num_train), ("val", num_val), ("test", num_test))
        )

    def _draw(self, n: int, generators: Sequence[Generator]) -> Tensor:
        """N points from each generator: (n, D) from one, (R, n, D) from several."""
        points = [self.target.sample(n, g) for g in generators]
        return points[0] if len(points) == 1 else torch.stack(points)

    def fresh(self) -> Callable[[int], Tensor]:
        """A function that draws n further points, of each replicate's own; none of them twice."""
        generators = [generator("data/fresh", seed) for seed in self.seeds]
        return lambda n: self._draw(n, generators)

    def of_replicate(self, index: int) -> "ToyData":
        """The data as one of the replicates has them: points (N, D)."""
        if self.train.dim() == 2:
            return self
        one = copy.copy(self)
        one.train, one.val, one.test = (x[index] for x in (self.train, self.val, self.test))
        return one

    def setup(self, stage: str) -> None:
        device = cast(pl.Trainer, self.trainer).strategy.root_device
        self.train, self.val, self.test = (x.to(device) for x in (self.train, self.val, self.test))

    def train_dataloader(self) -> "Batches":
        num_batches = max(1, CHUNK_SIZE // self.batch_size)
        return Batches(self.train, num_batches * self.batch_size, self._position)

    def val_dataloader(self) -> "Batches":
        return Batches(self.val, EVAL_BATCH_SIZE)

    def test_dataloader(self) -> "Batches":
        return Batches(self.test, EVAL_BATCH_SIZE)

    def _position(self) -> tuple[Tensor, int]:
        trainer = cast(pl.Trainer, self.trainer)
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self.order(trainer.current_epoch), done

    def order(self, epoch: int) -> Tensor:
        """The order in which an epoch visits the training points: (num_train,).

        With several replicates (replicates, num_train), as the seeds from order_seed on have them.
        """
        generators = (generator("order", seed, epoch) for seed in self.order_seeds)
        orders = [torch.randperm(self.train.shape[-2], generator=g) for g in generators]
        return orders[0] if len(orders) == 1 else torch.stack(orders)


class Batches:
    """Slices of a tensor, (..., batch_size, D) each and the last maybe shorter.

    `position` gives the order of an epoch, or several, and how many batches are done already.
    """

    def __init__(
        self,
        points: Tensor,
        batch_size: int,
        position: Callable[[], tuple[Tensor, int]] | None = None,
    ):
        self.points = points
        self.batch_size = batch_size
        self.position = position

    def __len__(self) -> int:
        return math.ceil(self.points.shape[-2] / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        # a generator: Lightning calls iter() before a resumed run knows its epoch, next() after
        points, done = self.points, 0
        if self.position is not None:
            order, done = self.position()
            points = ordered(points, order)
        yield from torch.split(points, self.batch_size, dim=-2)[done:]


def ordered(points: Tensor, order: Tensor) -> Tensor:
    """Points (N, D) or (R, N, D) in an order (N,) or in R of them (R, N)."""
    if points.dim() == 2:
        return points[order]
    return torch.stack([x[i] for x, i in zip(points, order, strict=True)])
