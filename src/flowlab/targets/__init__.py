"""Densities that are known exactly, for a flow to learn; one file each."""

from flowlab.targets.bimodal import Bimodal
from flowlab.targets.target import Conditional, Target
from flowlab.targets.turning import Turning

__all__ = ["CONDITIONAL", "TARGETS", "Bimodal", "Conditional", "Target", "Turning"]

TARGETS: dict[str, type[Target]] = {
    "bimodal": Bimodal,
}
CONDITIONAL: dict[str, type[Conditional]] = {
    "turning": Turning,
}
