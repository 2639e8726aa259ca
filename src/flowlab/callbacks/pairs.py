"""Samples over held-out data, for each pair of a few columns."""

from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np

from flowlab.callbacks.picture import Drawing, Picture, beside, in_plane, positive
from flowlab.data import Data
from flowlab.data.names import near_names
from flowlab.errors import ConfigError
from flowlab.flows import Flow
from flowlab.plots import table

MOST = 8  # columns


class Pairs(Picture):
    """`num_samples` points from the flow over as many validation points, columns against columns.

    Of more than eight columns, the eight that depend most on others, if `columns` names no others.
    The points are those of `Quantiles`. Modes are marked where the target knows them.
    """

    def __init__(self, every_n_epochs: int | None, num_samples: int, columns: Sequence[str] | None):
        super().__init__(every_n_epochs)
        self.num_samples = num_samples
        self.columns = None if columns is None else list(map(str, columns))

    def suits(self, data: Data) -> bool:
        return len(data.shape) == 1 and not in_plane(data)

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Raise ConfigError, before the training, for a column that is not there."""
        super().setup(trainer, module, stage)
        names = self.training.data.of(0).names
        for column in self.columns or ():
            if column not in names:
                hint = near_names(column, names)
                raise ConfigError(f"callbacks.pairs.columns: no column {column!r}; {hint}")

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        drawn, held_out = beside(flow, data, self.num_samples)
        chosen = [data.names.index(name) for name in self.columns or ()] or dependent(
            held_out if data.drawn else drawn
        )
        names, above_zero = [data.names[i] for i in chosen], [positive(data)[i] for i in chosen]
        modes = getattr(data.truth, "modes", None)
        few = None if modes is None else modes.numpy()[:, chosen]
        arrays = drawn[:, chosen], held_out[:, chosen], few
        yield "pairs", table.pairs, *arrays, names, above_zero, len(data.names)


def dependent(x: np.ndarray[Any, Any]) -> list[int]:
    """The at most eight columns of x (N, D) that depend most on others, in their order.

    Those with the largest sum of squares of Spearman's rank correlations with all.
    """
    if x.shape[1] <= MOST:
        return list(range(x.shape[1]))
    from scipy.stats import rankdata  # half a second that few runs need

    ranks = rankdata(x, axis=0)
    ranks -= ranks.mean(0)
    spread = np.sqrt(np.square(ranks).sum(0))
    ranks /= np.where(spread > 0, spread, 1)
    strength = np.square(ranks.T @ ranks).sum(0)
    return sorted(np.argsort(-strength, kind="stable")[:MOST].tolist())
