"""flowlab: experiments with normalizing flows.

>>> import flowlab
>>> flow = flowlab.load("latest")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlab.export import load as load
    from flowlab.export import save as save
    from flowlab.flows import build_flow as build_flow
    from flowlab.job import compose as compose
    from flowlab.job import train as train

    __version__: str

HOMES = {
    "build_flow": "flowlab.flows",
    "compose": "flowlab.job",
    "load": "flowlab.export",
    "save": "flowlab.export",
    "train": "flowlab.job",
}
__all__ = ["build_flow", "compose", "load", "save", "train"]


def __getattr__(name: str) -> Any:  # lazily, so that `python train.py --help` imports no torch
    if name == "__version__":
        from importlib.metadata import version

        return version("flowlab")
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'flowlab' has no attribute {name!r}")
