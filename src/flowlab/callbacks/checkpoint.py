"""best.ckpt and last.ckpt, and how they reach the disk."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map_only

from flowlab.errors import ModelFileError
from flowlab.files import write_whole
from flowlab.runs.checkpoints import FORMAT, forget, read_checkpoint, to_bytes
from flowlab.training.module import Training


class Checkpoint(callbacks.Checkpoint):
    """Saves last.ckpt after every epoch, and best.ckpt when the validation loss is lowest.

    Of replicates each has its best weights, and best.ckpt is saved with each of them.

    With `every_n_train_steps`, last.ckpt is also saved within epochs, when a chunk of batches ends.
    The best weights travel in last.ckpt as well, so that it is enough to go on from.
    """

    def __init__(self, every_n_train_steps: int | None):
        self.every_n_train_steps = every_n_train_steps
        self.last_step = 0
        self.best_loss, self.best_epoch = torch.tensor([math.inf]), torch.tensor([0])
        self.best_weights: dict[str, Tensor] | None = None

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        folder = Path(trainer.default_root_dir, "checkpoints")
        if trainer.is_global_zero:
            folder.mkdir(exist_ok=True)
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the checkpoints over into another directory, where there may be no epoch left."""
        if not trainer.is_global_zero or trainer.ckpt_path is None:
            return
        before = Path(trainer.ckpt_path)
        if not self.last.exists():
            write_whole(self.last, before.read_bytes())
        with suppress(OSError, ModelFileError):  # it is not needed to go on
            best = before.with_name("best.ckpt")
            if not self.best.exists() and _epochs(best) == self.best_epoch.max():
                write_whole(self.best, best.read_bytes())

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any
    ) -> None:
        step, n = cast(Training, module).step, self.every_n_train_steps
        if n is not None and step // n > self.last_step // n and not trainer.is_last_batch:
            trainer.save_checkpoint(self.last)
        self.last_step = step

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        training = cast(Training, module)
        loss = torch.tensor(training.history[training.names[1]][-1])
        better, weights = loss < self.best_loss, module.state_dict()
        if better.any():
            before = weights if self.best_weights is None else self.best_weights
            each = (better if len(better) > 1 else better[0]).to(training.device)  # by itself
            self.best_weights = {k: _where(each, weights[k], before[k]) for k in weights}
            self.best_loss = torch.where(better, loss, self.best_loss)
            self.best_epoch = torch.where(better, trainer.current_epoch + 1, self.best_epoch)
        trainer.save_checkpoint(self.last)
        if better.any() and trainer.is_global_zero:
            cast(PatientIO, trainer.strategy.checkpoint_io).save_again(self.best)

    def restore(self, training: Training) -> list[int]:
        """Give the flows their best weights; returns the epochs that these are of, if there are."""
        if self.best_weights is None:
            return []
        training.load_state_dict(self.best_weights)
        return [int(epoch) for epoch in self.best_epoch]

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss, self.best_epoch = state_dict["best_loss"], state_dict["best_epoch"]
        self.best_weights = state_dict["best_weights"]


def _epochs(path: Path) -> int:
    epochs = int(read_checkpoint(path)["epoch"]) + 1
    forget()
    return epochs


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """torch.where for a condition () or (R,), and x and y of more dimensions after it."""
    condition = condition[(..., *(None,) * (x.dim() - condition.dim()))]
    return torch.where(condition, x, y.to(x.device))


class PatientIO(TorchCheckpointIO):
    """Keeps the newest checkpoint of each name in memory, and writes them every second.

    Small flows have epochs of 30 ms, and writing two files in each would cost a fifth of the
    training. What waits is written at the end of the training, also when it is interrupted; a
    killed process loses `seconds` of work at most. `before_writing` is called first, so that what
    the checkpoints rely on is on the disk before them.
    """

    def __init__(self, before_writing: Callable[[], None], seconds: float = 1.0):
        self.before_writing = before_writing
        self.seconds = seconds
        self.waiting: dict[Path, dict[str, Any]] = {}
        self.newest: dict[str, Any] = {}
        self.written = 0.0

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        self.newest = tree_map_only(Tensor, Tensor.clone, checkpoint)
        self.newest["flowlab"]["format"] = FORMAT
        self.waiting[Path(path)] = self.newest
        if time.monotonic() - self.written > self.seconds:
            self.flush()

    def save_again(self, path: Path) -> None:
        """Save the newest checkpoint under another name too."""
        self.waiting[path] = self.newest

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        checkpoint = read_checkpoint(Path(path))
        forget()
        return checkpoint

    def flush(self) -> None:
        """Write all that waits, each file whole or not at all."""
        self.before_writing()
        for path, checkpoint in self.waiting.items():
            write_whole(path, to_bytes(checkpoint))
        self.waiting.clear()
        self.written = time.monotonic()

    def teardown(self) -> None:
        self.flush()
