"""Samples of the flow beside held-out data."""

from collections.abc import Iterator

import torch

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import plane, table
from flowlab.rng import generator


class Samples(Picture):
    """`num_samples` points from the flow beside as many validation points, and the true modes.

    Outside the plane, pairs of the first coordinates and the range of each. Modes are marked where
    the target knows them.

    The base noise is the same in every picture, so that the slider moves points, not noise.
    """

    def __init__(self, every_n_epochs: int, num_samples: int):
        super().__init__(every_n_epochs)
        self.num_samples = num_samples

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        held_out, context = data.val.map(lambda t: t[: self.num_samples].to(flow.base.loc))
        u = torch.randn(held_out.shape, generator=generator("callbacks/samples"))
        x, _ = flow.inverse(u.to(flow.base.loc), context)
        modes = getattr(data.truth, "modes", None)
        arrays = (x.cpu().numpy(), held_out.cpu().numpy(), None if modes is None else modes.numpy())
        if flow.shape == (2,):
            yield "samples", plane.samples, *arrays, data.extent
        else:
            yield "samples", table.pairs, *arrays, data.names
