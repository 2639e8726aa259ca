"""The learning, seen: the density from epoch to epoch."""

from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from flowlab.callbacks.picture import lattice, truth_in_plane
from flowlab.logger import RunLogger
from flowlab.plots import film
from flowlab.training.module import Training


class Film(Callback):
    """Takes `num_frames` evenly over the epochs, or one each, and ends with plots/density.gif.

    A frame is the density on a grid of `resolution` points each way, in 256 steps: so it costs a
    few milliseconds, and all that there are travel in the checkpoints. A run that goes on thus has
    a film from its start; from a checkpoint without frames, or with others, from where it goes on.
    Of replicates it is the first. Where there is a `Density` there is a film.
    """

    def __init__(self, num_frames: int, resolution: int):
        self.num_frames, self.resolution = num_frames, resolution
        self.frames: dict[int, Tensor] = {}  # by epoch: (G, G)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        training = cast(Training, module)
        data = training.data.of(0)
        self.truth = truth_in_plane(data)
        if self.truth is not None:
            _, self.x = lattice(data.extent, self.resolution)
            density = self.truth.log_prob(self.x).exp()
            self.highest = density.max()
            self.true = self._bytes(density)
            if not self.frames:
                self._take(training)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.is_due(trainer.current_epoch + 1, cast(int, trainer.max_epochs)):
            self._take(cast(Training, module))

    def is_due(self, epoch: int, total: int) -> bool:
        """Whether an epoch, from 1 on, of so many has a frame."""
        return epoch * self.num_frames // total > (epoch - 1) * self.num_frames // total

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        training = cast(Training, module)
        self._take(training)  # of one that stopped early
        if self.frames:
            val, several = training.names[1], training.replicates.num > 1
            losses = dict(zip(training.history["epoch"], training.history[val], strict=True))
            which = f"seed {training.seed}, " if several else ""
            captions = [f"{which}epoch {e}: {val} {losses[e][0]:.3f} nats" for e in self.frames]
            frames, extent = [f.numpy() for f in self.frames.values()], training.data.of(0).extent
            arguments = film.density, frames, self.true.numpy(), captions, extent
            cast(RunLogger, trainer.logger).log_picture("density.gif", max(self.frames), *arguments)

    @torch.no_grad()
    def _take(self, training: Training) -> None:
        epoch = training.history["epoch"][-1]
        if self.truth is not None and epoch not in self.frames:
            flow = training.replicates.flow(0)
            self.frames[epoch] = self._bytes(flow.log_prob(self.x.to(flow.base.loc)).exp().cpu())

    def _bytes(self, density: Tensor) -> Tensor:
        """Densities in steps of a 255th of the highest true one; what is no number has none."""
        return (255 * density / self.highest).nan_to_num().clamp(0, 255).byte()

    def state_dict(self) -> dict[str, Any]:
        return {"frames": dict(self.frames)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        same = (self.resolution, self.resolution)
        self.frames = {e: f for e, f in state_dict["frames"].items() if f.shape == same}
