"""What flows of images are made of: levels of channels, and couplings over a checkerboard."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from flowlab.flows.coupling import join, split
from flowlab.flows.transform import Transform
from flowlab.flows.univariate import Univariate

SQUEEZE, HALVE = "squeeze", "halve"


class Level(Transform):
    """Layers of images, (N, H, W, C), at one level of a flow of vectors, (N, D).

    The way down to a level has steps of two kinds:

        SQUEEZE:  each 2 x 2 square becomes a place with 4 times the channels
        HALVE:    channels 1, 3, 5, ... stay behind, where no layer further down moves them

    What comes back up has each number at the place that it came from, so that layers at the
    identity are the identity, and all latents are one vector, whenever they were left behind.

    Reference: Dinh et al., "Density estimation using Real NVP", ICLR 2017, sections 3.6 and 3.7.
    """

    def __init__(
        self, shape: tuple[int, int, int], way: Sequence[str], layers: Sequence[Transform]
    ):
        super().__init__()
        self.shape = shape
        self.way = way
        self.parts = nn.ModuleList(layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, behind = self._down(x)
        log_dets = []
        for layer in self.parts:
            h, log_det = layer(h, context)
            log_dets.append(log_det)
        return self._up(h, behind), sum(log_dets[1:], start=log_dets[0])

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, behind = self._down(u)
        log_dets = []
        for layer in reversed(self.parts):
            h, log_det = cast(Transform, layer).inverse(h, context)
            log_dets.append(log_det)
        return self._up(h, behind), sum(log_dets[1:], start=log_dets[0])

    @torch.no_grad()
    def fit(self, x: Tensor, context: Tensor | None = None) -> None:
        h, _ = self._down(x)
        for layer in self.parts:
            cast(Transform, layer).fit(h, context)
            h, _ = layer(h, context)

    def layers(self) -> list[Transform]:
        """Each layer by itself, at this level."""
        return [Level(self.shape, self.way, [cast(Transform, layer)]) for layer in self.parts]

    def reach(self, like: Tensor) -> Tensor:
        """1 for each number that layers see at this level, 0 for what stayed behind: (D,)."""
        h, behind = self._down(torch.zeros_like(like[:1]))
        return self._up(torch.ones_like(h), behind)[0]

    def _down(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The image of this level, and what has stayed behind."""
        h, behind = x.reshape(len(x), *self.shape), []
        for step in self.way:
            if step == SQUEEZE:
                h = squeeze(h)
            else:
                h, rest = split(h)
                behind.append(rest)
        return h, behind

    def _up(self, h: Tensor, behind: list[Tensor]) -> Tensor:
        for step in reversed(self.way):
            h = unsqueeze(h) if step == SQUEEZE else join([h, behind.pop()])
        return h.flatten(1)


def squeeze(x: Tensor) -> Tensor:
    """Each 2 x 2 square as one place: (N, H, W, C) -> (N, H / 2, W / 2, 4 C).

    >>> squeeze(torch.arange(8).reshape(1, 2, 2, 2)).tolist()
    [[[[0, 2, 4, 6, 1, 3, 5, 7]]]]
    """
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(n, height // 2, width // 2, 4 * channels)


def unsqueeze(x: Tensor) -> Tensor:
    """What `squeeze` came from: (N, H, W, C) -> (N, 2 H, 2 W, C / 4)."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, channels // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, 2 * height, 2 * width, channels // 4)


class Checkerboard(Transform):
    """A coupling layer of images (N, H, W, C) that keeps the squares of one colour.

    It keeps the black ones, that at the corner among them, or with kept=1 the white ones. The net
    sees the kept ones beside zeros, and what it gives for them is not used; the map must be the
    identity for parameters of zero.

    Reference: Dinh et al., "Density estimation using Real NVP", ICLR 2017, section 3.4.
    """

    mask: Tensor

    def __init__(
        self, net: Callable[..., Tensor], univariate: Univariate, kept: int, size: tuple[int, int]
    ):
        super().__init__()
        self.net = net
        self.univariate = univariate
        colours = (torch.arange(size[0]).unsqueeze(1) + torch.arange(size[1])) % 2
        self.register_buffer("mask", (colours == kept).float().unsqueeze(-1), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slopes = self.univariate.forward(x, self._moves(x, context))
        return y, log_slopes.flatten(1).sum(1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slopes = self.univariate.inverse(u, self._moves(u, context))
        return y, log_slopes.flatten(1).sum(1)

    def _moves(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.net(x * self.mask, context) * (1 - self.mask)
