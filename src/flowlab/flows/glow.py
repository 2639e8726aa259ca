"""Glow: coupling layers of images between which all channels get mixed, at several scales."""

from flowlab.flows.coupling import Coupling
from flowlab.flows.image import HALVE, SQUEEZE, Level
from flowlab.flows.linear import LU, ActNorm
from flowlab.flows.nets import ConvNet
from flowlab.flows.transform import Transform, image_size
from flowlab.flows.univariate import Affine


def glow(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 4,
    num_levels: int = 2,
    num_hidden: int = 64,
    bound: float = 2.0,
) -> list[Transform]:
    """Glow: at each of `num_levels`, `num_flows` times ActNorm, 1 x 1 convolution and coupling.

    A level begins with a squeeze. After it half of its channels stay behind, with a prior learned
    from the other half h, N(m(h), s(h)^2): as latents they are (z - m(h)) / s(h), which is what a
    coupling layer does. The convolutions are `LU` layers, which start by turning the order of the
    channels round, and the couplings, with nets of `num_hidden` channels, start as the identity.
    `bound` limits each layer's log-scale softly to (-bound, bound). Raises ValueError for points
    that are not images, or whose sides cannot be halved at each level.

    Reference: Kingma and Dhariwal, "Glow", NeurIPS 2018, section 3 and appendix A.
    """
    size = *_, channels = image_size(shape, num_levels)
    affine, way = Affine(bound), tuple[str, ...]()
    levels: list[Transform] = []
    for level in range(num_levels):
        channels, way = 4 * channels, (*way, SQUEEZE)
        half = channels // 2 + context
        layers: list[Transform] = []
        for _ in range(num_flows):
            net = ConvNet((half, num_hidden, num_hidden, channels), (3, 1, 3))
            layers += [ActNorm(channels), LU(channels), Coupling(net, affine, 0)]
        if level < num_levels - 1:
            layers.append(Coupling(ConvNet((half, channels), (3,)), affine, 0))
        levels.append(Level(size, way, layers))
        channels, way = channels // 2, (*way, HALVE)
    return levels
