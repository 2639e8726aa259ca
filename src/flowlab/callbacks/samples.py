"""Samples of the flow beside held-out data."""

from collections.abc import Iterator

from flowlab.callbacks.picture import Drawing, Picture, in_plane, samples_for
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import plane


class Samples(Picture):
    """In the plane, `num_samples` points from the flow beside as many validation points.

    Modes are marked where the target knows them.
    """

    def __init__(self, every_n_epochs: int | None, num_samples: int):
        super().__init__(every_n_epochs)
        self.num_samples = num_samples

    def suits(self, data: Data) -> bool:
        return in_plane(data)

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        held_out = data.val.map(lambda t: t[: self.num_samples])
        x = samples_for(flow, held_out)
        modes = getattr(data.truth, "modes", None)
        arrays = (x.cpu().numpy(), held_out.x.numpy(), None if modes is None else modes.numpy())
        yield "samples", plane.samples, *arrays, data.extent
