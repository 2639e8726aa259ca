"""The learned density beside the true one."""

from collections.abc import Iterator

import torch

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.flows import Flow
from flowlab.plots import plane
from flowlab.training.data import ToyData


class Density(Picture):
    """Filled contours and a surface of p(x) in the plane, learned and true, on one scale each."""

    def __init__(self, every_n_epochs: int, resolution: int):
        super().__init__(every_n_epochs)
        self.resolution = resolution

    def suits(self, data: ToyData) -> bool:
        return data.target.dim == 2

    def draw(self, flow: Flow, data: ToyData) -> Iterator[Drawing]:
        axis = torch.linspace(-data.target.extent, data.target.extent, self.resolution)
        x = torch.cartesian_prod(axis, axis).reshape(self.resolution, self.resolution, 2)
        x = x.transpose(0, 1)  # rows along x2, as matplotlib has it
        learned = flow.log_prob(x.to(flow.base.loc)).exp().cpu().numpy()
        true = data.target.log_prob(x).exp().numpy()
        yield "density", plane.density, axis.numpy(), learned, true
        yield "surface", plane.surface, axis.numpy(), learned, true
