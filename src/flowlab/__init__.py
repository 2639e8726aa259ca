"""flowlab: experiments with normalizing flows.

>>> import flowlab
>>> flow = flowlab.load("outputs/2026-11-23/12-00-00-000000")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlab.export import load as load
    from flowlab.flows import build_flow as build_flow

__all__ = ["build_flow", "load"]


def __getattr__(name: str) -> Any:  # lazily, so that `python train.py --help` imports no torch
    if name == "load":
        from flowlab.export import load

        return load
    if name == "build_flow":
        from flowlab.flows import build_flow

        return build_flow
    raise AttributeError(f"module 'flowlab' has no attribute {name!r}")
