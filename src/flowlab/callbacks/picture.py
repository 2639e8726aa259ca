"""What all picture callbacks share: when they draw, and where the pictures go."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor, nn

from flowlab.data import Data, Points
from flowlab.flows import Flow
from flowlab.logger import RunLogger
from flowlab.plots.style import Array
from flowlab.rng import generator
from flowlab.targets import Target
from flowlab.training.module import Training

# name, plot, arrays
Drawing = tuple[str, Callable[..., Figure], *tuple[Any, ...]]


class Picture(Callback, ABC):
    """Draws before the training and every n epochs; `show` draws the best flow after its test.

    With None for n that is all it draws.

    To add a picture, write a plot in `flowlab/plots`, subclass this with a `draw`, and name the
    class under `callbacks` in the configuration. A picture that does not suit all data says so in
    `suits`, and `of` is the kind of model that it shows. Random numbers must come from a generator
    of the picture's own.
    """

    of: type[nn.Module] = Flow

    def __init__(self, every_n_epochs: int | None):
        self.every_n_epochs = every_n_epochs

    def suits(self, data: Data) -> bool:
        """Whether the picture can show such data; where it cannot, it is silent."""
        return True

    @abstractmethod
    def draw(self, flow: Any, data: Data) -> Iterator[Drawing]:
        """Yield (name, plot, *arrays) for each picture; the plot is given a title after them."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self.training = cast(Training, module)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.every_n_epochs is not None and trainer.ckpt_path is None:
            self._show_in_training(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if (
            self.every_n_epochs is not None
            and epoch % self.every_n_epochs == 0
            and epoch != trainer.max_epochs
            and not trainer.should_stop
        ):
            self._show_in_training(trainer, epoch)

    def _show_in_training(self, trainer: pl.Trainer, epoch: int) -> None:
        training = self.training
        best, name = training.best, training.names[1]
        title = f"epoch {epoch}: {name} {training.history[name][-1][best]:.3f} nats"
        flow, data = training.replicates.flow(best), training.data.of(best)
        self.show(cast(RunLogger, trainer.logger), epoch, flow, data, title)

    @torch.no_grad()
    def show(self, logger: RunLogger, epoch: int, flow: nn.Module, data: Data, title: str) -> None:
        """Draw a model and its data."""
        if isinstance(flow, self.of) and self.suits(data):
            for name, plot, *arrays in self.draw(flow, data):
                logger.log_picture(name, epoch, plot, *arrays, title)


def in_plane(data: Data) -> bool:
    """Whether pictures show points as those of the plane, and not as columns with units."""
    return data.shape == (2,) and data.support is None and data.drawn


def truth_in_plane(data: Data) -> Target | None:
    """The density behind points of the plane, if it is known and has no context."""
    known = data.shape == (2,) and data.truth is not None
    return cast(Target, data.truth) if known and not data.num_context else None


def lattice(extent: float, resolution: int) -> tuple[Tensor, Tensor]:
    """A square grid over [-extent, extent]^2: its coordinates (G,), and its points (G, G, 2).

    Rows are along x2, as matplotlib has it.
    """
    axis = torch.linspace(-extent, extent, resolution)
    x = torch.cartesian_prod(axis, axis).reshape(resolution, resolution, 2)
    return axis, x.transpose(0, 1)


def positive(data: Data) -> list[bool]:
    """Which coordinates are positive by their support."""
    return [where == "positive" for where in data.support or [None] * len(data.names)]


def samples_for(flow: Flow, points: Points) -> Tensor:
    """A sample for each point, given its context: (N, *shape).

    The base noise is the same in every picture, so that the slider moves points, not noise.
    """
    size = len(points.x), flow.dim
    u = torch.randn(size, generator=generator("callbacks/samples")).to(flow.base.loc)
    context = None if points.context is None else points.context.to(u.device)
    x, _ = flow.inverse(u, context)
    return x


def some(points: Points, most: int) -> Points:
    """At most so many points, from all over them, for they may have an order."""
    total = len(points.x)
    index = torch.arange(num := min(most, total)) * total // num
    return points.map(lambda t: t[index])


def beside(flow: Flow, data: Data, most: int) -> tuple[Array, Array]:
    """Samples for at most so many validation points, and these if there are any, (N, *shape)."""
    held_out = some(data.val, most)
    drawn = samples_for(flow, held_out).cpu().double().numpy()
    return drawn, held_out.x.double().numpy() if data.drawn else drawn[:0]
