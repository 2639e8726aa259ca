"""Normalizing flows in plain PyTorch: `build_flow(name, dim, **options)` makes any of them."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

from flowlab.flows.coupling import coupling
from flowlab.flows.flow import Flow, StandardNormal, Transform

__all__ = ["FLOWS", "Flow", "StandardNormal", "Transform", "build_flow"]

FLOWS: dict[str, Callable[..., Flow]] = {
    "coupling": coupling,
}


def build_flow(name: str, dim: int, **options: Any) -> Flow:
    """Build a flow on R^dim by its name in `FLOWS`; the options are its recipe's keyword arguments.

    The flow's `config` holds the name, dim and every option, defaults written out, so that
    `build_flow(**flow.config)` builds its twin. Raises ValueError for an unknown name or option
    and for a value that is not of the kind of the option's default.

    >>> build_flow("coupling", dim=3, num_flows=2).config
    {'name': 'coupling', 'dim': 3, 'num_flows': 2, 'num_hidden': 8, 'bound': 1.0}
    """
    if name not in FLOWS:
        raise ValueError(f"unknown flow {name!r}; available: {', '.join(FLOWS)}")
    parameters = inspect.signature(FLOWS[name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if unknown := ", ".join(options.keys() - defaults.keys()):
        raise ValueError(f"flow {name!r} has no option {unknown}; available: {', '.join(defaults)}")
    values = {"dim": dim} | defaults | options
    for key, value in values.items():
        kind = type(defaults.get(key, 0))
        if type(value) not in (kind, int):
            raise ValueError(
                f"{key} of flow {name!r} must be of type {kind.__name__}, got {value!r}"
            )
        if kind is float and abs(value) > sys.float_info.max:
            raise ValueError(f"{key} of flow {name!r} is too large")
        values[key] = kind(value)
    flow = FLOWS[name](**values)
    flow.config = {"name": name, **values}
    return flow
