"""Real NVP: coupling layers of images over checkerboards and over channels, at several scales."""

from flowlab.flows.coupling import Coupling
from flowlab.flows.image import HALVE, SQUEEZE, Checkerboard, Level
from flowlab.flows.linear import ActNorm
from flowlab.flows.nets import ConvNet
from flowlab.flows.transform import Transform, image_size
from flowlab.flows.univariate import Affine


def realnvp(
    shape: tuple[int, ...],
    context: int,
    *,
    num_flows: int = 4,
    num_levels: int = 2,
    num_hidden: int = 64,
    bound: float = 2.0,
) -> list[Transform]:
    """Real NVP: at each level `num_flows` couplings over checkerboards and as many over channels.

    A level has the first, a squeeze, the second, and then half of its channels stay behind. They
    keep one half and the other in turn, with nets of `num_hidden` channels, and start as the
    identity. Before each stands an `ActNorm`, in the place of the paper's batch normalization.
    `bound` limits each layer's log-scale softly to (-bound, bound). Raises ValueError for points
    that are not images, or whose sides cannot be halved at each level.

    Reference: Dinh et al., "Density estimation using Real NVP", ICLR 2017, section 3.
    """
    size = height, width, channels = image_size(shape, num_levels)
    affine, kernels = Affine(bound), (3, 1, 3)
    levels: list[Transform] = []
    way: tuple[str, ...] = ()
    for _ in range(num_levels):
        sizes = (channels + context, num_hidden, num_hidden, 2 * channels)
        layers: list[Transform] = []
        for i in range(num_flows):
            net = ConvNet(sizes, kernels)
            board = Checkerboard(net, affine, i % 2, (height, width))
            layers += [ActNorm(channels), board]
        levels.append(Level(size, way, layers))
        height, width, channels, way = height // 2, width // 2, 4 * channels, (*way, SQUEEZE)
        sizes = (channels // 2 + context, num_hidden, num_hidden, channels)
        layers = []
        for i in range(num_flows):
            layers += [ActNorm(channels), Coupling(ConvNet(sizes, kernels), affine, i % 2)]
        levels.append(Level(size, way, layers))
        channels, way = channels // 2, (*way, HALVE)
    return levels
