"""The LightningModule: the loop over batches, whatever it is that is minimized."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flowlab.data import Points
from flowlab.errors import ConfigError
from flowlab.rng import drawing, generator
from flowlab.training.data import DataModule
from flowlab.training.diagnosis import diagnose_one
from flowlab.training.objectives import Objective
from flowlab.training.replicates import Replicates

Sums = list[tuple[Tensor, int]]  # of losses (R,) over points, and over how many


class Training(pl.LightningModule):
    """Fits R flows by gradient descent on the mean of an objective's loss over batches.

    What Lightning calls a batch is a chunk of several, so that its own costs, half of a small
    flow's step, are paid once for all of them; `training_step` is a plain PyTorch loop over them.
    With several processes each takes its share of every batch; the losses are those of the whole.

    `optimizer` is called with the parameters; its learning rate is multiplied in each epoch by
    `schedule(progress)`, progress being the share of the epochs that are done. Gradients are
    clipped to the norm `clip`, if there is one; with `compile` the losses are compiled. After
    `patience` epochs in which no flow's validation loss was its lowest, the training stops.
    `config`, plain keys and values, and `identity` are what checkpoints say of the run.

    `history` has columns epoch, train/NAME and val/NAME, the losses as lists of R, with a row for
    each epoch that is done and one for before them.

    Raises NonFiniteError or DataError before what is not finite reaches the parameters or a
    checkpoint; on a GPU, which would wait for such a look at every step, at the end of the epoch.
    """

    def __init__(
        self,
        flows: Sequence[Any],
        objective: Objective[Any],
        data: DataModule,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        *,
        clip: float | None,
        patience: int | None,
        compile: bool,
        seed: int,
        config: dict[str, Any],
        identity: str,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.replicates = Replicates(flows, objective.loss)
        self.objective, self.data = objective, data
        self.make_optimizer, self.schedule = optimizer, schedule
        self.clip, self.patience = clip, patience
        if compile:
            logging.getLogger(__name__).info("compiling the training step: about 20 seconds")
        self.training_loss = torch.compile(self.loss) if compile else self.loss
        self.config, self.identity, self.seed = config, identity, seed
        self.rng_state = generator("training", seed).get_state()
        self.has_started = False
        self.seconds = 0.0  # of training, also before a resume
        self.step = 0
        self.batch = Points(torch.empty(0))
        self.losses: Sums = []  # of the epoch in progress
        self.evaluated: Sums = []
        self.norms: list[Tensor] = []  # of its steps' gradients, before clipping: (R,) each
        self.names = f"train/{objective.name}", f"val/{objective.name}"
        self.history: dict[str, list[Any]] = {"epoch": [], **{name: [] for name in self.names}}

    def loss(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The sum of each flow's losses over points: (R,)."""
        losses: Tensor = self.replicates(x, context)
        return losses.sum(-1)

    @property
    def best(self) -> int:
        """The flow to show: that with the lowest loss in the last validation."""
        losses = self.history[self.names[1]][-1]
        return min(range(len(losses)), key=losses.__getitem__)

    @property
    def waited(self) -> int:
        """How many epochs it is since any flow's validation loss was its lowest."""
        losses = np.nan_to_num(self.history[self.names[1]][1:] or [[0]], nan=np.inf, posinf=np.inf)
        return len(losses) - 1 - int(losses.argmin(0).max())

    @property
    def is_patient(self) -> bool:
        """Whether it may go on."""
        return self.patience is None or self.waited < self.patience

    def configure_optimizers(self) -> Optimizer:
        try:
            return self.make_optimizer(self.parameters())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"optimizer: {error}") from error

    @torch.no_grad()
    def on_fit_start(self) -> None:
        if not self.history["epoch"]:
            data, losses = self.eval().data, []
            for points, num in ((data.train, data.num_train), (data.val, data.num_val)):
                sums = [(self._sum(points, chunk), len(chunk)) for chunk in data.some(num)]
                losses.append(self._mean(sums))
            self.train()._note(0, *losses)

    def on_train_start(self) -> None:
        self.has_started = True
        self.start = time.monotonic() - self.seconds
        torch.set_rng_state(self.rng_state)
        if rank := self.global_rank:  # its draws are for other points
            torch.manual_seed(generator("training", self.seed, rank, self.step).initial_seed())
        self.losses = [(total.to(self.device), n) for total, n in self.losses]
        optimizer = self._optimizer()
        for group in optimizer.param_groups:
            group.update(optimizer.defaults)  # and not those of the run that goes on
        self.trainer.should_stop |= not self.is_patient  # the run that goes on may have ended
        self.on_train_epoch_start()  # which Lightning does not call within an epoch

    def on_train_end(self) -> None:
        self.seconds = time.monotonic() - self.start

    def on_train_epoch_start(self) -> None:
        optimizer = self._optimizer()
        progress = self.current_epoch / cast(int, self.trainer.max_epochs)
        self.objective.progress.fill_(progress)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * self.schedule(progress)

    def training_step(self, chunk: Tensor) -> None:
        optimizer, parameters, step = self._optimizer(), list(self.parameters()), self.step
        several, watch = self.trainer.world_size > 1, self.device.type == "cpu"
        for index in torch.split(chunk, self.data.batch_size, dim=-1):
            batch = self.data.take(self.data.train, self._share(index) if several else index)
            loss = self.training_loss(*batch)
            if watch and not several and not math.isfinite(loss.sum().item()):
                raise self.diagnose("the loss", batch, step)
            optimizer.zero_grad()
            # of the mean; DDP takes it over the processes, whose shares may differ by a point
            weight = torch.full_like(loss, self.trainer.world_size / index.shape[-1])
            if several:
                self.manual_backward(loss, gradient=weight)
            else:
                torch.autograd.backward(loss, weight)
            gradients = [p.grad for p in parameters if p.grad is not None]
            norms = self.replicates.norms(gradients)
            if watch and not math.isfinite(norms.sum().item()):
                raise self.diagnose("a gradient", batch, step)
            if self.clip is not None:
                self.replicates.clip_(gradients, norms, self.clip)
            optimizer.step()
            step += 1
            self.losses.append((loss.detach(), index.shape[-1]))
            self.norms.append(norms)
        self.step, self.batch = step, batch

    def on_validation_epoch_start(self) -> None:
        self.evaluated.clear()

    def validation_step(self, index: Tensor) -> None:
        self.evaluated.append((self._sum(self.data.val, index), index.shape[-1]))

    def on_validation_epoch_end(self) -> None:
        train, val = self._mean(self.losses), self._mean(self.evaluated)
        if not train.isfinite().all():
            raise self.diagnose("the loss", self.batch, self.step)
        self.losses.clear()
        self._note(self.current_epoch + 1, train, val)
        self.trainer.should_stop |= not self.is_patient

    def on_train_epoch_end(self) -> None:
        # straight to the logger, so that no checkpoint of this epoch is written before
        means = {name: float(np.mean(self.history[name][-1])) for name in self.names}
        for logger in self.loggers:
            logger.log_metrics(means | {"epoch": self.current_epoch})
        self.norms.clear()

    def _note(self, epoch: int, train: Tensor, val: Tensor) -> None:
        row = (epoch, train.tolist(), val.tolist())
        for column, value in zip(self.history.values(), row, strict=True):
            column.append(value)

    def _sum(self, points: Points, index: Tensor) -> Tensor:
        """The losses over points, with the same draws whenever they are asked for."""
        with drawing(
            "evaluation", self.seed, int(index.flatten()[0]) + self.global_rank, device=self.device
        ):
            return self.loss(*self.data.take(points, self._share(index)))

    def _optimizer(self) -> Optimizer:
        return cast(Optimizer, self.optimizers(use_pl_optimizer=False))

    def _share(self, index: Tensor) -> Tensor:
        """The share of this process of indices: (..., N) -> (..., about N / processes)."""
        return index[..., self.global_rank :: self.trainer.world_size]

    def _everyones(self, sums: Sums) -> Sums:
        """Sums over shares of points, with those of the other processes added."""
        if not sums:
            return []
        totals = self.trainer.strategy.reduce(torch.stack([s for s, _ in sums]), reduce_op="sum")
        return [(total, n) for total, (_, n) in zip(totals, sums, strict=True)]

    def _mean(self, sums: Sums) -> Tensor:
        """The mean over all points of sums over some of them: (R,)."""
        everyones = self._everyones(sums)
        return torch.stack([total for total, _ in everyones]).sum(0) / sum(n for _, n in everyones)

    @torch.no_grad()
    def diagnose(self, what: str, batch: Points, step: int) -> Exception:
        """The error for a step in which `what` was not finite."""
        faulty = ~(self.loss(*batch).isfinite() & self.replicates.finite())
        return diagnose_one(self.replicates, faulty, batch, step, what, self.seed, self.objective)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.replicates.finite().all():
            raise self.diagnose("a weight", self.batch, self.step)
        checkpoint["flowlab"] = {
            "config": self.config,
            "identity": self.identity,
            "facts": self.data.facts,
            "waited": self.waited,
            "rng_state": torch.get_rng_state(),
            "step": self.step,
            "seconds": time.monotonic() - self.start,
            "losses": self._everyones(self.losses),
            "norms": self.norms,
            # as tensors, for a checkpoint is copied leaf by leaf
            "history": {k: torch.tensor(v, dtype=torch.float64) for k, v in self.history.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["flowlab"]
        self.rng_state, self.step = state["rng_state"], state["step"]
        self.seconds, self.norms = state["seconds"], list(state.get("norms", ()))
        first = self.global_rank == 0  # it takes over what all had
        self.losses = [(total if first else 0 * total, n) for total, n in state["losses"]]
        self.history = {key: column.tolist() for key, column in state["history"].items()}
