"""How fast the training goes, and by what steps, as scalars."""

import time
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from flowlab.training.module import Training


class Rates(Callback):
    """Logs learning_rate, gradient_norm and points_per_second once an epoch, under training/.

    The norm is that before clipping, its mean over the steps and replicates; points are those of
    all replicates together, seconds those of the steps alone.
    """

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.start, self.first_step = time.monotonic(), cast(Training, module).step

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.on_train_start(trainer, module)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seconds = time.monotonic() - self.start

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        training = cast(Training, module)
        data, steps = training.data, training.step - self.first_step
        norm = sum(float(norms.mean()) for norms in training.norms)
        points = training.replicates.num * data.num_train * steps / data.steps_per_epoch
        rates: dict[str, Any] = {
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "gradient_norm": norm / data.steps_per_epoch,
            "points_per_second": points / self.seconds,
        }
        for logger in trainer.loggers:  # written with the losses
            logger.log_metrics({f"training/{name}": value for name, value in rates.items()})
