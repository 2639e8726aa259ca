"""SIGINT and SIGTERM in the middle of a training."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from flowlab.processes import SIGNALS, ignore_signals


class Interrupt(Callback):
    """Stops a training after a chunk of batches, with last.ckpt saved; a second signal at once.

    Raises SystemExit with 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM. Of several
    processes all stop together. Part of every run, and not of its configuration.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self.handlers = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
            heeded: tuple[int, ...] = SIGNALS
            if "SUBMITIT_EXECUTOR" in os.environ:  # Slurm's warning, before it asks to requeue
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                heeded = SIGNALS[:1]
            reader, self.writer = os.pipe()
            os.set_blocking(self.writer, False)
            signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
            threading.Thread(target=_exit_at_the_second, args=(reader, heeded), daemon=True).start()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        # the last batch is left to the end of its epoch: Lightning resumes from there better
        if not trainer.is_last_batch and self._signal(trainer):
            if trainer.checkpoint_callback is not None:
                trainer.save_checkpoint(trainer.checkpoint_callback.last)  # type: ignore[attr-defined]
            raise SystemExit(128 + self.signum)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._signal(trainer):
            raise SystemExit(128 + self.signum)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._signal(trainer):
            raise SystemExit(128 + self.signum)

        self._restore()

    def on_exception(self, trainer: pl.Trainer, *args: Any) -> None:
        self._restore()
        if trainer.world_size > 1:
            ignore_signals()  # torchrun's, with which it ends all when one has ended

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum

    def _signal(self, trainer: pl.Trainer) -> int:
        if trainer.world_size > 1:
            noted = torch.tensor(self.signum, device=trainer.strategy.root_device)
            self.signum = int(trainer.strategy.reduce(noted, reduce_op="max"))
        return self.signum

    def _restore(self) -> None:
        if self.handlers:
            signal.set_wakeup_fd(-1)
            os.close(self.writer)
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        self.handlers.clear()


def _exit_at_the_second(reader: int, heeded: tuple[int, ...]) -> None:
    """Watch from a thread: Python calls handlers only when a batch's long operations are done."""
    with os.fdopen(reader, "rb", buffering=0) as signals:
        seen = 0
        while signum := signals.read(1):
            seen += signum[0] in heeded
            if seen == 2:
                os._exit(128 + signum[0])
