"""SIGINT and SIGTERM in the middle of a training."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class Interrupt(Callback):
    """Stops a training at the end of the batch, with last.ckpt saved; a second signal at once.

    Raises SystemExit with 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM. Part of
    every run, and not of its configuration.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self.handlers[signum] = signal.signal(signum, self._note)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        # the last batch is left to the end of its epoch: Lightning resumes from there better
        if self.signum and not trainer.is_last_batch:
            if trainer.checkpoint_callback is not None:
                trainer.save_checkpoint(trainer.checkpoint_callback.last)  # type: ignore[attr-defined]
            self._stop()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._restore()
        self._stop()

    def on_exception(self, *args: Any) -> None:
        self._restore()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            os._exit(128 + signum)
        self.signum = signum

    def _stop(self) -> None:
        if self.signum:
            raise SystemExit(128 + self.signum)

    def _restore(self) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        self.handlers.clear()
