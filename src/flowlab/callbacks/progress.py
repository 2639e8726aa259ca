"""A progress bar that costs the training nothing."""

from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from flowlab.module import MaximumLikelihood


class Progress(Callback):
    """One bar over all steps, with the NLL of the last epoch; silent where there is no terminal."""

    bar = tqdm(disable=True)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
        )

    def on_train_batch_end(self, *args: Any) -> None:
        self.bar.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        nll = {"train/nll": float(cast(MaximumLikelihood, module).train_nll)}
        nll |= {k: float(v) for k, v in trainer.callback_metrics.items() if k == "val/nll"}
        self.bar.set_description(f"epoch {trainer.current_epoch + 1}", refresh=False)
        self.bar.set_postfix(nll, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, *args: Any) -> None:
        self.bar.close()
