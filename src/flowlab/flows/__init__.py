"""Normalizing flows in plain PyTorch: `build_flow(name, shape, **options)` makes any of them."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowlab.flows.autoencoder import Autoencoder
from flowlab.flows.autoregressive import iaf, maf, naf, spline_ar
from flowlab.flows.base import StandardNormal
from flowlab.flows.bnaf import bnaf
from flowlab.flows.coupling import coupling, spline
from flowlab.flows.diagonal import diagonal
from flowlab.flows.ffjord import ffjord
from flowlab.flows.flow import Flow
from flowlab.flows.glow import glow
from flowlab.flows.planar import planar
from flowlab.flows.radial import radial
from flowlab.flows.realnvp import realnvp
from flowlab.flows.residual import residual
from flowlab.flows.stack import stack
from flowlab.flows.sylvester import sylvester
from flowlab.flows.transform import Inverse, OneWay, Transform
from flowlab.flows.units import Units, checked_support

__all__ = [
    "FLOWS",
    "Autoencoder",
    "Flow",
    "Inverse",
    "OneWay",
    "StandardNormal",
    "Transform",
    "build",
    "build_flow",
]

FLOWS: dict[str, Callable[..., list[Transform]]] = {
    "coupling": coupling,
    "spline": spline,
    "maf": maf,
    "iaf": iaf,
    "spline_ar": spline_ar,
    "naf": naf,
    "bnaf": bnaf,
    "planar": planar,
    "radial": radial,
    "sylvester": sylvester,
    "residual": residual,
    "ffjord": ffjord,
    "diagonal": diagonal,
    "realnvp": realnvp,
    "glow": glow,
}
DIRECTIONS = ("density", "sampling")


def build_flow(
    name: str,
    shape: int | Sequence[int],
    *,
    context: int = 0,
    direction: str = "density",
    support: Sequence[Any] | Mapping[str, Any] | None = None,
    **options: Any,
) -> Flow:
    """Build a flow by its name in `FLOWS`, of vectors of `shape` numbers, or of images.

    The shape of an image is (H, W), or with C channels (H, W, C).

    With a `context` of C numbers it is a density for each context (C,). `direction="sampling"`
    turns the family round: the way that its layers have gone from data to base, they go from base
    to data. A `support` is that of vectors with units of their own: None, "positive" or [low, high]
    for each coordinate; `Units`, which `Flow.fit` fits to data, then comes before the family,
    whichever way round that is. That of images whose numbers are 0, ..., Q - 1 with noise in [0, 1)
    is {"levels": Q, "logit": a}, as `Pixels` has them, or None for a. The options are the recipe's
    keyword arguments.

    The flow's `config` holds the name, the shape and every option, defaults written out, so that
    `build_flow(**flow.config)` builds its twin. Raises ValueError for an unknown name or option
    and for a value that is not of the kind of the option's default, or a number of something, as
    num_flows, that is not positive.

    >>> config = build_flow("coupling", 3, num_flows=2).config
    >>> {key: config[key] for key in ("name", "shape", "context", "direction")}
    {'name': 'coupling', 'shape': [3], 'context': 0, 'direction': 'density'}
    >>> {key: config[key] for key in ("num_flows", "num_hidden", "bound")}
    {'num_flows': 2, 'num_hidden': 8, 'bound': 1.0}
    """
    if name not in FLOWS:
        raise ValueError(f"unknown flow {name!r}; available: {', '.join(FLOWS)}")
    sizes = _sizes(shape)
    if type(context) is not int or context < 0:
        raise ValueError(f"context must be a whole number of at least 0, got {context!r}")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be {' or '.join(DIRECTIONS)}, got {direction!r}")
    values = _options(name, options)
    transforms = stack(FLOWS[name](tuple(sizes), context, **values))
    if direction == "sampling":
        transforms = [Inverse(transform) for transform in reversed(transforms)]
    config: dict[str, Any] = {
        "name": name,
        "shape": sizes,
        "context": context,
        "direction": direction,
    }
    if support is not None:
        config["support"] = checked_support(support, sizes)
        transforms = [Units(config["support"], context), *transforms]
    flow = Flow(transforms, tuple(sizes), context)
    flow.config = config | values
    return flow


def _sizes(shape: Any) -> list[int]:
    sizes: list[Any] = list(shape) if isinstance(shape, list | tuple) else [shape]
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"shape must be a positive whole number, or a list of them, got {shape!r}")
    return sizes


def build(config: Mapping[str, Any]) -> Flow | Autoencoder:
    """What has such a configuration: a flow, or an autoencoder with one as its posterior.

    Raises ValueError as `build_flow` does.
    """
    if "posterior" in config:
        return Autoencoder(build_flow(**config["posterior"]), tuple(_sizes(config["shape"])))
    return build_flow(**config)


def _options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a recipe, each of the kind of its default."""
    parameters = inspect.signature(FLOWS[name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    if unknown := ", ".join(options.keys() - defaults.keys()):
        hint = f"available: {', '.join(defaults)}" if defaults else "it has none"
        raise ValueError(f"flow {name!r} has no option {unknown}; {hint}")
    values = defaults | options
    for key, value in values.items():
        kind = type(defaults[key])
        if type(value) not in ((int, float) if kind is float else (kind,)):
            raise ValueError(
                f"{key} of flow {name!r} must be of type {kind.__name__}, got {value!r}"
            )
        if key.startswith("num_") and value < 1:
            raise ValueError(f"{key} of flow {name!r} must be at least 1, got {value}")
        if kind is float and abs(value) > sys.float_info.max:
            raise ValueError(f"{key} of flow {name!r} is too large")
        values[key] = kind(value)
    return values
