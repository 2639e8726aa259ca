"""A progress bar that costs the training nothing."""

import math
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from flowlab.module import MaximumLikelihood


class Progress(Callback):
    """One bar over all steps, with the NLL of the last epoch; silent where there is no terminal."""

    bar = tqdm(disable=True)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        data = cast(Any, trainer).datamodule
        steps = math.ceil(data.train.shape[-2] / data.batch_size)
        self.bar = tqdm(
            total=cast(int, trainer.max_epochs) * steps,
            initial=cast(MaximumLikelihood, module).step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any
    ) -> None:
        self.bar.update(cast(MaximumLikelihood, module).step - self.bar.n)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        module = cast(MaximumLikelihood, module)
        nll = {"train/nll": float(module.train_nll.mean()), "val/nll": float(module.val_nll.mean())}
        self.bar.set_description(f"epoch {trainer.current_epoch + 1}", refresh=False)
        self.bar.set_postfix(nll, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, *args: Any) -> None:
        self.bar.close()
