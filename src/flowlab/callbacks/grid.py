"""What each layer does to a grid: the change of variables, seen."""

from collections.abc import Iterator

import torch

from flowlab.callbacks.picture import Drawing, Picture, in_plane
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import plane

MOST = 9  # panels
FINE = 5  # points to a line's next


class Grid(Picture):
    """A grid of `num_lines` lines each way over [-3, 3]^2 of the base, layer by layer to the data.

    With it goes the density, from log p(u), that of the base, on:

        log p(x) = log p(u) - log|det dx/du|,  x what a layer makes of u

    Of many layers as many as there are panels, evenly.
    """

    def __init__(self, every_n_epochs: int | None, num_lines: int):
        super().__init__(every_n_epochs)
        self.num_lines = num_lines

    def suits(self, data: Data) -> bool:
        return in_plane(data) and not data.num_context

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        side = FINE * (self.num_lines - 1) + 1
        axis = torch.linspace(-3, 3, side)
        x = torch.cartesian_prod(axis, axis).to(flow.base.loc)
        log_p, layers = flow.base.log_prob(x), flow.transforms
        steps = [("base", x, log_p)]
        for number in range(len(layers), 0, -1):
            x, log_det = layers[number - 1].inverse(x)
            log_p = log_p - log_det
            steps.append(
                (f"after layer {number}" if number > 1 else "after layer 1: data", x, log_p)
            )
        shown = torch.linspace(0, len(layers), min(len(steps), MOST)).round().int().tolist()
        arrays = [
            (
                name,
                x.reshape(side, side, 2).cpu().numpy(),
                log_p.exp().reshape(side, side).cpu().numpy(),
            )
            for name, x, log_p in (steps[i] for i in shown)
        ]
        yield "grid", plane.grid, arrays, FINE, data.extent
