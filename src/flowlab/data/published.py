"""Data sets that papers give figures of, recognised by their splits."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from flowlab.data.data import Points


class Published(NamedTuple):
    """The rows of training, validation and test and the columns of a data set as papers use it.

    `standard` says whether its columns have mean 0 and variance 1. `test` is the SHA-256 of the
    test rows as float32, in their order, where the rows were at hand to compute it.
    """

    rows: tuple[int, int, int]
    columns: int
    standard: bool = True
    test: str | None = None


# as the scripts of the MAF paper (Papamakarios, Pavlakou and Murray, 2017) leave them
PUBLISHED = {
    "POWER": Published((1_659_917, 184_435, 204_928), 6),
    "GAS": Published((852_174, 94_685, 105_206), 8),
    "HEPMASS": Published((315_123, 35_013, 174_987), 21),
    "MINIBOONE": Published(
        (29_556, 3_284, 3_648),
        43,
        test="99a3d20513965ddfde36f5b58848404e6b4b364d64cfd4d27e9370fbf418a65f",
    ),
    "BSDS300": Published((1_000_000, 50_000, 250_000), 63, standard=False),
}
FAR = 0.2  # from mean 0 and deviation 1, for the rows that the paper standardises by are not all


def published(splits: Sequence[Points]) -> dict[str, Any]:
    """What metrics.json says of training, validation and test rows that papers have figures of.

    `data/published` is the data set's name and `data/published_by` what it was recognised by: the
    "digest" of its test rows, or its "shape" alone, and then rows of those sizes in standard units
    could still be others. Nothing of other rows.
    """
    x = [points.x for points in splits]
    if splits[0].context is not None or x[0].dim() != 2:
        return {}
    rows = tuple(map(len, x))
    for name, known in PUBLISHED.items():
        if (known.rows, known.columns) == (rows, x[0].shape[1]):
            digest = hashlib.sha256(x[2].float().numpy().tobytes()).hexdigest()
            by = "digest" if digest == known.test else "shape"
            if by == "digest" or not known.standard or _is_standard(splits[0]):
                return {"data/published": name, "data/published_by": by}
    return {}


def _is_standard(points: Points) -> bool:
    mean, deviation = points.x.double().mean(0), points.x.double().std(0)
    return bool((mean.abs() < FAR).all() and ((deviation - 1).abs() < FAR).all())
