"""Where the flow takes held-out data: the latents, which ought to be standard normal."""

from collections.abc import Iterator

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.flows import Flow
from flowlab.plots import table
from flowlab.training.data import ToyData


class Latents(Picture):
    """Histograms of the coordinates of u = f(x) for the validation points, against N(0, 1)."""

    def draw(self, flow: Flow, data: ToyData) -> Iterator[Drawing]:
        u, _ = flow(data.val.to(flow.base.loc))
        yield "latents", table.latents, u.cpu().numpy()
