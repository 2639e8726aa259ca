"""The learned density beside the true one."""

from collections.abc import Iterator
from typing import cast

from flowlab.callbacks.picture import Drawing, Picture, lattice, truth_in_plane
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import plane
from flowlab.targets import Target


class Density(Picture):
    """Contours of p(x) and of log p(x), and a surface, in the plane, learned and true."""

    def __init__(self, every_n_epochs: int | None, resolution: int):
        super().__init__(every_n_epochs)
        self.resolution = resolution

    def suits(self, data: Data) -> bool:
        return truth_in_plane(data) is not None

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        axis, x = lattice(data.extent, self.resolution)
        learned = flow.log_prob(x.to(flow.base.loc)).cpu().numpy()
        true = cast(Target, truth_in_plane(data)).log_prob(x).numpy()
        yield "density", plane.density, axis.numpy(), learned, true
        yield "surface", plane.surface, axis.numpy(), learned, true
