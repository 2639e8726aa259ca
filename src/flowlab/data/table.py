"""Points from files with columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.data.cells import Rows, usable
from flowlab.data.columns import Columns, choose
from flowlab.data.data import Data, Points, dequantized
from flowlab.data.degenerate import check_density, warn_of_copies, warn_of_values
from flowlab.data.published import published
from flowlab.data.reading import read
from flowlab.errors import DataError
from flowlab.files import digest
from flowlab.rng import generator

Index = NDArray[np.int64]
SPLITS = ("train", "val", "test")


def table(
    path: str,
    columns: Sequence[Any] | None = None,
    drop: Sequence[Any] | None = None,
    context: Sequence[Any] | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    val_path: str | None = None,
    test_path: str | None = None,
    header: str | bool = "auto",
    rows: int | None = None,
    missing: str = "error",
    support: Mapping[Any, Any] | None = None,
    noise: Mapping[Any, float] | None = None,
    seed: int = 0,
) -> Data:
    """Read the columns of a file, split its rows and check that they have a density.

    What the arguments say is told in conf/data/table.yaml. The split has a generator of its own,
    from the seed, and so has the noise of the validation and of the test rows, which is drawn once;
    training rows are left without. Points are float32, or float64 where some column needs it.
    Raises DataError for rows that no density can have, and ConfigError for contradictory columns.
    """
    paths = {"train": path, "val": val_path, "test": test_path}
    keys = {"train": "data.path", "val": "data.val_path", "test": "data.test_path"}
    tables = {s: read(name, header, keys[s]) for s, name in paths.items() if name is not None}
    chosen = choose(tables["train"], columns, drop, context, support, noise)
    for other in tables.values():
        chosen.check_in(other)
    found = {s: usable(other, chosen, missing) for s, other in tables.items()}
    parts = _parts(found, split, rows, seed)
    points = _points(found, parts, chosen)
    label = tables["train"].label
    check_density(label, chosen, points["train"])
    warn_of_values(label, chosen, points["train"].x, seed)
    warn_of_copies(label, points["train"], points["test"])
    facts = {
        "data/rows": sum(len(part) for part in parts.values()),
        "data/dropped": sum(f.dropped for f in found.values()),
        "data/sha256": digest([other.path for other in tables.values()]),
    }
    if (widths := chosen.widths) is not None:
        widths = widths.to(points["train"].x.dtype)
        for s in ("val", "test"):
            _add_noise(points[s].x, widths, generator(f"data/noise/{s}", seed))
    else:
        facts |= published([points[s] for s in SPLITS])
    return Data(
        *(points["train"], points["val"], points["test"]),
        chosen.names,
        context_names=chosen.context,
        support=chosen.support,
        noise=widths,
        kinds=found["train"].kinds,
        facts=facts,
    )


def _parts(
    found: Mapping[str, Rows], split: Sequence[float], rows: int | None, seed: int
) -> dict[str, Index]:
    """Which rows are in which split: at random, in the order of the file.

    A split with a file of its own has all of it, and the others' shares are in proportion.
    """
    label, index = found["train"].table.label, found["train"].index
    if rows is not None and rows > len(index):
        raise DataError(f"data.rows={rows}: {found['train'].table.path} has {len(index)} to use")
    order = torch.randperm(len(index), generator=generator("data/split", seed)).numpy()[:rows]
    shares = dict(zip(SPLITS, split, strict=True))
    own = [s for s in SPLITS if s == "train" or s not in found]
    total = sum(shares[s] for s in own)
    parts = {s: found[s].index for s in SPLITS if s not in own}
    start = len(order)
    for s in reversed(own):  # the training rows come first, so that they have what rounding leaves
        end, start = start, start - round(len(order) * shares[s] / total) if s != "train" else 0
        parts[s] = index[np.sort(order[start:end])]
    num = len(found["train"].columns.names)
    if len(parts["train"]) <= num or not all(map(len, parts.values())):
        counts = ", ".join(f"{len(parts[s])} for {s}" for s in SPLITS)
        raise DataError(
            f"{label}: too few rows: {len(order)} give {counts} by data.split; expected more than "
            f"{num} to train on, as there are columns, and one at least of the others"
        )
    return parts


def _points(
    found: Mapping[str, Rows], parts: Mapping[str, Index], chosen: Columns
) -> dict[str, Points]:
    """The cells of each split, every column of a file read once."""
    wide = {name for rows in found.values() for name in rows.wide}

    def tensors(names: tuple[str, ...]) -> dict[str, Tensor]:
        kind = torch.float64 if wide & set(names) else torch.float32
        result: dict[str, Tensor] = {}
        for s, rows in found.items():
            here = [t for t in SPLITS if t == s or (s == "train" and t not in found)]
            result |= zip(here, rows.tensors(names, [parts[t] for t in here], kind), strict=True)
        return result

    x = tensors(chosen.names)
    context = tensors(chosen.context) if chosen.context else {}
    return {s: Points(x[s], context.get(s)) for s in SPLITS}


def _add_noise(x: Tensor, widths: Tensor, g: torch.Generator) -> None:
    """Spread the coordinates that have noise over its width, in place."""
    noisy = widths.nonzero().flatten()
    share = torch.rand(len(x), len(noisy), generator=g, dtype=x.dtype)
    x[:, noisy] = dequantized(x[:, noisy], widths[noisy], share)
