"""Signals in the middle of a training."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from flowlab import signals


class Interrupt(Callback):
    """Stops a training after a chunk of batches, with last.ckpt saved; a second signal at once.

    Raises SystemExit with 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM, 129 for
    SIGHUP. Of several processes all stop together. Part of every run, and not of its configuration.
    """

    def __init__(self) -> None:
        self.noted = signals.Noted()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.noted.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        # the last batch is left to the end of its epoch: Lightning resumes from there better
        if not trainer.is_last_batch and (signum := self._signal(trainer)):
            if trainer.checkpoint_callback is not None:
                trainer.save_checkpoint(trainer.checkpoint_callback.last)  # type: ignore[attr-defined]
            raise SystemExit(128 + signum)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if signum := self._signal(trainer):
            raise SystemExit(128 + signum)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if signum := self._signal(trainer):
            raise SystemExit(128 + signum)
        self.noted.stop()

    def on_exception(self, trainer: pl.Trainer, *args: Any) -> None:
        self.noted.stop()
        if trainer.world_size > 1:
            signals.ignore()

    def _signal(self, trainer: pl.Trainer) -> int:
        """The signal that this process has noted, or any of them: 0 if none has."""
        if trainer.world_size > 1:
            noted = torch.tensor(self.noted.signum, device=trainer.strategy.root_device)
            self.noted.signum = int(trainer.strategy.reduce(noted, reduce_op="max"))
        return self.noted.signum
