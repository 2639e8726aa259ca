"""The learned density beside the true one."""

from collections.abc import Iterator

import torch

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import plane
from flowlab.targets import Conditional


class Density(Picture):
    """Filled contours and a surface of p(x) in the plane, learned and true, on one scale each."""

    def __init__(self, every_n_epochs: int | None, resolution: int):
        super().__init__(every_n_epochs)
        self.resolution = resolution

    def suits(self, data: Data) -> bool:
        return data.shape == (2,) and not isinstance(data.truth, Conditional | None)

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        assert not isinstance(data.truth, Conditional | None)
        axis = torch.linspace(-data.extent, data.extent, self.resolution)
        x = torch.cartesian_prod(axis, axis).reshape(self.resolution, self.resolution, 2)
        x = x.transpose(0, 1)  # rows along x2, as matplotlib has it
        learned = flow.log_prob(x.to(flow.base.loc)).exp().cpu().numpy()
        true = data.truth.log_prob(x).exp().numpy()
        yield "density", plane.density, axis.numpy(), learned, true
        yield "surface", plane.surface, axis.numpy(), learned, true
