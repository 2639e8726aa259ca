"""Densities that are known exactly, for a flow to learn; one file each."""

from flowlab.targets.bimodal import Bimodal
from flowlab.targets.target import Target
from flowlab.targets.turning import Turning

__all__ = ["TARGETS", "Bimodal", "Target", "Turning"]

TARGETS: dict[str, type[Target]] = {
    "bimodal": Bimodal,
}
