"""Where the training is, at no cost: a progress bar, or lines in the log where nobody watches."""

import logging
import time
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from flowlab.training.module import Training

log = logging.getLogger(__name__)

FIRST, EVERY = 5.0, 10.0  # seconds from the start to the first line, and from line to line


class Progress(Callback):
    """One bar over all steps, with the last epoch's losses; without a terminal a line at times.

    Time left is counted from the end of the first chunk of batches on, for what comes before it,
    compiling above all, comes but once.
    """

    bar = tqdm(disable=True)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        training = cast(Training, module)
        self.bar = tqdm(
            total=cast(int, trainer.max_epochs) * training.data.steps_per_epoch,
            initial=training.step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
        )
        self.first: tuple[float, int] | None = None  # time and step
        self.due = time.monotonic() + FIRST

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any
    ) -> None:
        now, step = time.monotonic(), cast(Training, module).step
        self.bar.update(step - self.bar.n)
        self.first = self.first or (now, step)
        if self.bar.disable and now >= self.due:
            self.due = now + EVERY
            log.info(self._line(trainer, module, now))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.set_description(f"epoch {trainer.current_epoch + 1}", refresh=False)
        self.bar.set_postfix(_losses(module), refresh=False)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, *args: Any) -> None:
        self.bar.close()

    def _line(self, trainer: pl.Trainer, module: pl.LightningModule, now: float) -> str:
        step, total = cast(Training, module).step, self.bar.total
        words = [f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"]
        words.append(f"step {step} of {total}")
        words += [f"{name} {value:.3f}" for name, value in _losses(module).items()]
        start, first_step = cast(tuple[float, int], self.first)
        if step > first_step:
            left = (now - start) / (step - first_step) * (total - step)
            words.append(f"{tqdm.format_interval(left)} left")
        return ", ".join(words)


def _losses(module: pl.LightningModule) -> dict[str, float]:
    """Those of the epoch that ended last, of replicates their mean; none before the first."""
    epochs, *columns = cast(Training, module).history.items()
    if len(epochs[1]) == 1:
        return {}
    return {name: sum(values[-1]) / len(values[-1]) for name, values in columns}
