"""Data sets: functions that give `Data`, each in a file of its own."""

from typing import TYPE_CHECKING, Any

from flowlab.data.data import Data, Points, dequantized
from flowlab.data.toy import toy

if TYPE_CHECKING:
    from flowlab.data.images import digits as digits
    from flowlab.data.images import images as images
    from flowlab.data.table import table as table

__all__ = ["Data", "Points", "dequantized", "digits", "images", "table", "toy"]


def __getattr__(name: str) -> Any:  # lazily, for points of the plane need no polars
    if name not in ("digits", "images", "table"):
        raise AttributeError(f"module 'flowlab.data' has no attribute {name!r}")
    from flowlab.data.images import digits, images
    from flowlab.data.table import table

    globals().update(digits=digits, images=images, table=table)  # after the modules of such names
    return globals()[name]
