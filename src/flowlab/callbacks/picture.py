"""What all picture callbacks share: when they draw, and where the pictures go."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from flowlab.flows import Flow
from flowlab.logger import RunLogger
from flowlab.training.data import ToyData
from flowlab.training.module import MaximumLikelihood

# name, plot, arrays
Drawing = tuple[str, Callable[..., Figure], *tuple[Any, ...]]


def parts(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[Flow, ToyData]:
    """The flow in training that is shown, and its data."""
    likelihood = cast(MaximumLikelihood, module)
    return likelihood.shown(), cast(Any, trainer).datamodule.of_replicate(likelihood.best)


class Picture(Callback, ABC):
    """Draws before the training, every n epochs, and the best flow after its test.

    To add a picture, write a plot in `flowlab/plots.py`, subclass this with a `draw`, and name the
    class under `callbacks` in the configuration. A picture that does not suit all data says so in
    `suits`. Random numbers must come from a generator of the picture's own.
    """

    def __init__(self, every_n_epochs: int):
        self.every_n_epochs = every_n_epochs

    def suits(self, data: ToyData) -> bool:
        """Whether the picture can show such data; where it cannot, it is silent."""
        return True

    @abstractmethod
    def draw(self, flow: Flow, data: ToyData) -> Iterator[Drawing]:
        """Yield (name, plot, *arrays) for each picture; the plot is given a title after them."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.ckpt_path is None:
            self._log(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 and epoch != trainer.max_epochs:
            self._log(trainer, module, epoch)

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        module = cast(MaximumLikelihood, module)
        nll, kl = (module.value(module.test_metrics[f"test/{name}"]) for name in ("nll", "kl"))
        epochs = trainer.current_epoch
        title = f"best of {epochs} epochs: test NLL {nll:.3f} nats, KL to the truth {kl:.3f} nats"
        self._log(trainer, module, epochs, title)

    @torch.no_grad()
    def _log(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        epoch: int | None = None,
        title: str | None = None,
    ) -> None:
        flow, data = parts(trainer, module)
        if not self.suits(data):
            return
        epoch = trainer.current_epoch if epoch is None else epoch
        if title is None:
            nll = -flow.log_prob(data.val.to(flow.base.loc)).mean()
            title = f"epoch {epoch}: validation NLL {nll:.3f} nats"
        for name, plot, *arrays in self.draw(flow, data):
            cast(RunLogger, trainer.logger).log_picture(name, epoch, plot, *arrays, title)
