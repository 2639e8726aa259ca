"""Column by column, the quantiles of samples against those of held-out data."""

from collections.abc import Iterator

from flowlab.callbacks.picture import Drawing, Picture, beside, in_plane, positive
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import table


class Quantiles(Picture):
    """Of `num_samples` points from the flow and as many validation points, in a panel a column.

    With many columns those that are furthest off, and in all cases marked what chance alone hardly
    gives.
    """

    def __init__(self, every_n_epochs: int | None, num_samples: int):
        super().__init__(every_n_epochs)
        self.num_samples = num_samples

    def suits(self, data: Data) -> bool:
        return len(data.shape) == 1 and not in_plane(data) and data.drawn

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        arrays = beside(flow, data, self.num_samples)
        yield "quantiles", table.quantiles, *arrays, list(data.names), positive(data)
