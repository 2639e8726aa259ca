"""best.ckpt and last.ckpt, and how they reach the disk."""

import io
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map_only

from flowlab.files import write_whole


class Checkpoint(callbacks.Checkpoint):
    """Saves last.ckpt after every epoch, and best.ckpt when `val/nll` is the lowest so far."""

    def __init__(self, folder: str):
        self.last, self.best = Path(folder, "last.ckpt"), Path(folder, "best.ckpt")
        self.best_nll, self.best_epoch = float("inf"), 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.ckpt_path is None:
            return
        before = Path(trainer.ckpt_path).with_name("best.ckpt")
        if not before.exists():
            self.best_nll = float("inf")
        elif before.resolve() != self.best.resolve():
            write_whole(self.best, before.read_bytes())

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        nll = float(trainer.callback_metrics["val/nll"])
        if nll < self.best_nll:
            self.best_nll, self.best_epoch = nll, trainer.current_epoch + 1
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)

    def state_dict(self) -> dict[str, Any]:
        return {"best_nll": self.best_nll, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_nll, self.best_epoch = state_dict["best_nll"], state_dict["best_epoch"]


class PatientIO(TorchCheckpointIO):
    """Keeps the newest checkpoint of each name in memory, and writes them every few seconds.

    Small flows have epochs of 30 ms, and writing two files in each would cost a fifth of the
    training. What waits is written at the end of the training, also when it is interrupted; a
    killed process loses `seconds` of work at most.
    """

    def __init__(self, seconds: float = 5.0):
        self.seconds = seconds
        self.waiting: dict[Path, dict[str, Any]] = {}
        self.written = time.monotonic()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        self.waiting[Path(path)] = tree_map_only(Tensor, Tensor.clone, checkpoint)
        if time.monotonic() - self.written > self.seconds:
            self.flush()

    def flush(self) -> None:
        """Write all that waits, each file whole or not at all."""
        for path, checkpoint in self.waiting.items():
            buffer = io.BytesIO()
            torch.save(checkpoint, buffer)
            write_whole(path, buffer.getvalue())
        self.waiting.clear()
        self.written = time.monotonic()

    def teardown(self) -> None:
        self.flush()
