"""The loss curve, with the entropy as its floor."""

from collections.abc import Iterator
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.flows import Flow
from flowlab.plots import curves
from flowlab.training.data import ToyData
from flowlab.training.module import MaximumLikelihood


class Loss(Picture):
    """NLL of training and validation by epoch, of replicates a band; it outlives a resume."""

    def __init__(self, every_n_epochs: int):
        super().__init__(every_n_epochs)
        self.curve: dict[str, list[Any]] = {"epoch": [], "train/nll": [], "val/nll": []}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self.curve["epoch"]:
            data, nll = cast(Any, trainer).datamodule, cast(MaximumLikelihood, module).mean_nll
            with torch.no_grad():
                train, val = nll(data.train), nll(data.val)
            self._append(trainer.current_epoch, train, val)
        super().on_train_start(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        likelihood = cast(MaximumLikelihood, module)
        self._append(trainer.current_epoch + 1, likelihood.train_nll, likelihood.val_nll)
        super().on_train_epoch_end(trainer, module)

    def draw(self, flow: Flow, data: ToyData) -> Iterator[Drawing]:
        epochs, train, val = self.curve.values()
        if epochs:  # else no epoch was left, and those before had no curve
            yield "loss", curves.loss, epochs, train, val, data.target.entropy

    def state_dict(self) -> dict[str, Any]:
        # as tensors, for a checkpoint is copied leaf by leaf
        return {k: torch.tensor(column, dtype=torch.float64) for k, column in self.curve.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = {k: column.tolist() for k, column in state_dict.items()}

    def _append(self, epoch: int, train: Tensor, val: Tensor) -> None:
        values = (epoch, train.tolist(), val.tolist())
        for column, value in zip(self.curve.values(), values, strict=True):
            column.append(value)
