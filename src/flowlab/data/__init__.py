"""Data sets: functions that give `Data`, each in a file of its own."""

from typing import TYPE_CHECKING, Any

from flowlab.data.data import Data, Points, dequantized
from flowlab.data.toy import toy

if TYPE_CHECKING:
    from flowlab.data.images import digits as digits
    from flowlab.data.images import images as images
    from flowlab.data.maf import maf_bsds300 as maf_bsds300
    from flowlab.data.maf import maf_gas as maf_gas
    from flowlab.data.maf import maf_hepmass as maf_hepmass
    from flowlab.data.maf import maf_miniboone as maf_miniboone
    from flowlab.data.maf import maf_power as maf_power
    from flowlab.data.table import table as table

MAF = ("maf_power", "maf_gas", "maf_hepmass", "maf_miniboone", "maf_bsds300")
__all__ = ["Data", "Points", "dequantized", "digits", "images", "table", "toy", *MAF]


def __getattr__(name: str) -> Any:  # lazily, for points of the plane need no polars
    if name not in ("digits", "images", "table", *MAF):
        raise AttributeError(f"module 'flowlab.data' has no attribute {name!r}")
    from flowlab.data import maf
    from flowlab.data.images import digits, images
    from flowlab.data.table import table

    globals().update(digits=digits, images=images, table=table)  # after the modules of such names
    globals().update({function: getattr(maf, function) for function in MAF})
    return globals()[name]
