"""Densities that are known exactly, for a flow to learn; one file each."""

from flowlab.targets.bimodal import Bimodal
from flowlab.targets.checkerboard import Checkerboard
from flowlab.targets.eight_gaussians import EightGaussians
from flowlab.targets.target import Conditional, Target
from flowlab.targets.turning import Turning

__all__ = [
    "CONDITIONAL",
    "TARGETS",
    "Bimodal",
    "Checkerboard",
    "Conditional",
    "EightGaussians",
    "Target",
    "Turning",
]

TARGETS: dict[str, type[Target]] = {
    "bimodal": Bimodal,
    "eight_gaussians": EightGaussians,
    "checkerboard": Checkerboard,
}
CONDITIONAL: dict[str, type[Conditional]] = {
    "turning": Turning,
}
