"""What a flow of images makes of its latents."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from flowlab.callbacks.picture import Drawing, Picture, some
from flowlab.data import Data
from flowlab.flows import Autoencoder, Flow
from flowlab.flows.image import Level
from flowlab.plots import images
from flowlab.plots.style import Array
from flowlab.rng import generator

COOL = 0.7  # the temperature of tidier samples
PIECE = 1024  # training images that samples are compared with at once


class Images(Picture):
    """Samples at two temperatures, interpolations, what single levels hold, and nearest images.

    `num_images` in a row. Temperature T multiplies the latents. Held-out images are the validation
    set's; the nearest are the training set's by the Euclidean distance, so that memorising shows.
    """

    def __init__(self, every_n_epochs: int | None, num_images: int):
        super().__init__(every_n_epochs)
        self.num_images = num_images

    def suits(self, data: Data) -> bool:
        return data.levels is not None and not data.num_context

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        num, like = self.num_images, flow.base.loc
        x = some(data.val, 2 * num).x
        x, other = x[:num], x[num:][:num]
        u, last = flow(x.to(like))[0], flow.chain[-1]
        noise = torch.randn(num, flow.dim, generator=generator("callbacks/images")).to(like)

        def seen(u: Tensor) -> Tensor:
            return flow.inverse(u)[0].cpu()

        drawn = seen(noise)
        samples = {"held-out": x, "samples": drawn, f"samples, T = {COOL}": seen(COOL * noise)}
        yield "images", images.rows, _rows(samples), data.levels
        near = {"samples": drawn, "nearest in training": _nearest(drawn, data.train.x)}
        yield "nearest", images.rows, _rows(near), data.levels
        if isinstance(last, Level) and len(flow.chain) > 1:
            held = {"held-out": x, "without what stayed behind": seen(u * last.reach(u))}
            yield "levels", images.rows, _rows(held), data.levels
        if len(other) >= 3:
            arcs = _between(u[:3], flow(other[:3].to(like))[0], num)
            between = {name: seen(arc) for name, arc in arcs}
            yield "interpolations", images.rows, _rows(between), data.levels


class Reconstructions(Picture):
    """What an autoencoder makes of held-out images and of latents, as the probabilities of a one.

    `num_images` in a row: validation images, each by one draw of its latents, and new ones.
    """

    of = Autoencoder

    def __init__(self, every_n_epochs: int | None, num_images: int):
        super().__init__(every_n_epochs)
        self.num_images = num_images

    def draw(self, flow: Autoencoder, data: Data) -> Iterator[Drawing]:
        like, g = flow.base.loc, generator("callbacks/images")
        x = some(data.val, self.num_images).x.floor()
        noise, new = (torch.randn(len(x), len(like), generator=g).to(like) for _ in range(2))
        z, _ = flow.drawn(noise, *flow.encode(x.to(like)))
        pictures = {"held-out": x, "reconstructed": flow.means(z), "new": flow.means(new)}
        rows = _rows({name: seen.cpu() for name, seen in pictures.items()})
        yield "reconstructions", images.rows, rows, data.levels


def _rows(named: dict[str, Tensor]) -> list[tuple[str, Array]]:
    return [(name, np.nan_to_num(x.double().numpy())) for name, x in named.items()]


def _between(first: Tensor, second: Tensor, num: int) -> list[tuple[str, Tensor]]:
    """From each of some latents to another on the arc between them: (N, D) -> N times (num, D).

    Nearly all points of a normal in many dimensions are equally far from 0, and so are those of the
    arc; halfway on a straight line they would be too near.
    """
    t = torch.linspace(0, 1, num, device=first.device, dtype=first.dtype).unsqueeze(1)
    angle = torch.arccos(torch.cosine_similarity(first, second, dim=-1)).reshape(-1, 1, 1)
    weights = ((1 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()
    arcs = weights[0] * first.unsqueeze(1) + weights[1] * second.unsqueeze(1)
    return [(f"between two, {'abc'[i]}", arc) for i, arc in enumerate(arcs)]


def _nearest(x: Tensor, others: Tensor) -> Tensor:
    """Of other images the nearest to each of x."""
    best = torch.full((len(x),), torch.inf)
    index = torch.zeros(len(x), dtype=torch.long)
    for start in range(0, len(others), PIECE):
        piece = others[start : start + PIECE].to(x)
        distance, place = torch.cdist(x.flatten(1), piece.flatten(1)).min(1)
        index = torch.where(distance < best, place + start, index)
        best = torch.minimum(distance.to(best), best)
    return others[index]
