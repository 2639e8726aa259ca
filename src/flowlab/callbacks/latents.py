"""Where the flow takes held-out data: the latents, which ought to be standard normal."""

from collections.abc import Iterator

import torch

from flowlab.callbacks.picture import Drawing, Picture, some
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import table

MOST, NUMBERS = 20_000, 2**20  # points; numbers of all of them


class Latents(Picture):
    """Histograms of the coordinates of u = f(x) for validation points, against N(0, 1).

    In the plane their scatter too. Colours are those of the nearest mode, where the target has any.
    """

    def suits(self, data: Data) -> bool:
        return data.drawn

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        held_out = some(data.val, max(1, min(MOST, NUMBERS // flow.dim)))
        u, _ = flow(*held_out.map(lambda t: t.to(flow.base.loc.device)))
        modes = getattr(data.truth, "modes", None)
        nearest = None if modes is None else torch.cdist(held_out.x, modes).argmin(1).numpy()
        yield "latents", table.latents, u.cpu().numpy(), nearest
