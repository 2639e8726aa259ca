"""Densities that are known exactly, for a flow to learn; one file each."""

import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, cast

from flowlab.targets.bimodal import Bimodal
from flowlab.targets.checkerboard import Checkerboard
from flowlab.targets.circles import Circles
from flowlab.targets.crescent import Crescent
from flowlab.targets.eight_gaussians import EightGaussians
from flowlab.targets.energies import U1, U2, U3, U4, Energy
from flowlab.targets.funnel import Funnel
from flowlab.targets.gaussian import Gaussian
from flowlab.targets.mixture import Mixture
from flowlab.targets.pinwheel import Pinwheel
from flowlab.targets.sine import Sine
from flowlab.targets.target import Conditional, Target
from flowlab.targets.turning import Turning
from flowlab.targets.two_moons import TwoMoons
from flowlab.targets.two_spirals import TwoSpirals
from flowlab.targets.unnormalized import Unnormalized

__all__ = [
    "CONDITIONAL",
    "TARGETS",
    "Bimodal",
    "Checkerboard",
    "Conditional",
    "EightGaussians",
    "Energy",
    "Target",
    "Turning",
    "Unnormalized",
    "build_target",
]

TARGETS: dict[str, Callable[..., Target]] = {
    "bimodal": Bimodal,
    "eight_gaussians": EightGaussians,
    "checkerboard": Checkerboard,
    "two_moons": TwoMoons,
    "circles": Circles,
    "pinwheel": Pinwheel,
    "two_spirals": TwoSpirals,
    "sine": Sine,
    "crescent": Crescent,
    "funnel": Funnel,
    "gaussian": Gaussian,
    "mixture": Mixture,
    "u1": U1,
    "u2": U2,
    "u3": U3,
    "u4": U4,
}
CONDITIONAL: dict[str, Callable[..., Conditional]] = {
    "turning": Turning,
}


def build_target(name: str, dim: int | None = None) -> Target | Conditional | Unnormalized:
    """A target by its name in `TARGETS` or `CONDITIONAL`, of `dim` dimensions if it can have any.

    A dotted name, as my_model.log_density, is that of a function of the user's own, from points
    (N, dim) to their log-densities up to a constant, in nats, (N,). Raises ValueError for an
    unknown name, and for a `dim` that it cannot have.

    >>> build_target("gaussian", 5).dim
    5
    """
    if isinstance(name, str) and "." in name:
        if dim is None:
            raise ValueError(f"dim=null: expected how many coordinates points of {name} have")
        return Unnormalized(_function(name), dim)
    targets: dict[str, Callable[..., Target | Conditional]] = {**TARGETS, **CONDITIONAL}
    if name not in targets:
        own = "or module.function of your own"
        raise ValueError(f"target={name}: no such; available: {', '.join(targets)}, {own}")
    if dim is None:
        return targets[name]()
    free = [key for key in targets if "dim" in inspect.signature(targets[key]).parameters]
    if name not in free:
        allowed = f"null; of any dimension are {', '.join(free)}"
        raise ValueError(f"dim={dim}: {name} has {targets[name]().dim}; expected {allowed}")
    return targets[name](dim=dim)


def _function(name: str) -> Callable[..., Any]:
    try:
        found = pkgutil.resolve_name(name)
    except Exception as error:  # whatever the module does
        raise ValueError(f"target={name}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"target={name}: expected a function of points, got {found!r}")
    return cast(Callable[..., Any], found)
