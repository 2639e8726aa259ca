"""Where the flow takes held-out data: the latents, which ought to be standard normal."""

from collections.abc import Iterator

from flowlab.callbacks.picture import Drawing, Picture, some
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import table

MOST, NUMBERS = 20_000, 2**20  # points; numbers of all of them


class Latents(Picture):
    """Histograms of the coordinates of u = f(x) for validation points, against N(0, 1)."""

    def suits(self, data: Data) -> bool:
        return data.drawn

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        held_out = some(data.val, max(1, min(MOST, NUMBERS // flow.dim)))
        u, _ = flow(*held_out.map(lambda t: t.to(flow.base.loc.device)))
        yield "latents", table.latents, u.cpu().numpy()
