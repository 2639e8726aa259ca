"""How the flow bends a grid of the base space."""

from collections.abc import Iterator

import torch

from flowlab.callbacks.picture import Drawing, Picture, in_plane
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import plane


class Grid(Picture):
    """A regular grid of `num_lines` lines each way over [-3, 3]^2, before and after the flow."""

    def __init__(self, every_n_epochs: int | None, num_lines: int):
        super().__init__(every_n_epochs)
        self.num_lines = num_lines

    def suits(self, data: Data) -> bool:
        return in_plane(data) and not data.num_context

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        across, along = torch.linspace(-3, 3, self.num_lines), torch.linspace(-3, 3, 200)
        vertical = torch.stack(torch.meshgrid(across, along, indexing="ij"), dim=-1)
        u = torch.stack((vertical, vertical.flip(-1)))
        x, _ = flow.inverse(u.to(flow.base.loc))
        yield "grid", plane.grid, u.numpy(), x.cpu().numpy(), data.extent
