"""What a trained flow's file says of the columns that it was trained on."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.schema import NUM_QUANTILES, Numbers, Schema, are_names, numbered

FAR = 3e38  # in nats, in the place of what is infinite
MATHS = re.compile(r"\$.*\$")  # as pictures show names


def describe(flow: Flow, data: Data) -> Schema | None:
    """The columns of data that a flow was trained on; None of points that are no rows of numbers.

    Names that a file cannot have, as the toys' for pictures, give way to x1, x2, ..., c1, c2, ...
    """
    if len(data.shape) != 1:
        return None
    dim, context = data.shape[0], data.num_context
    names, contexts = data.names, data.context_names
    if (len(names), len(contexts)) != (dim, context) or not _are_plain(names + contexts):
        names, contexts = numbered("x", dim), numbered("c", context)
    noise = (0.0,) * dim if data.noise is None else tuple(map(float, data.noise))
    kinds = data.kinds or ("float",) * (dim + context)
    grid = [
        _grid(data.train.x[:, j].double().numpy()) if kind == "integer" and noise[j] else None
        for j, kind in enumerate(kinds[:dim])
    ]
    schema = Schema(tuple(names), tuple(contexts), tuple(kinds), noise, tuple(grid))
    quantiles = _quantiles(flow, data, schema) if data.drawn else ()
    return Schema(**{**vars(schema), "quantiles": quantiles})


def _are_plain(names: Sequence[Any]) -> bool:
    return are_names(names) and not any(map(MATHS.fullmatch, names))


def _grid(values: Numbers) -> tuple[float, float]:
    """The least of whole numbers, and the largest step that leads from it to all others."""
    least = values.min()
    return float(least), float(max(np.gcd.reduce((values - least).astype(np.int64)), 1))


@torch.no_grad()
def _quantiles(flow: Flow, data: Data, schema: Schema) -> tuple[float, ...]:
    """Quantiles of the log-densities of the training rows, as they would be scored."""
    x = data.train.x
    if data.noise is not None:
        x = x + 0.5 * data.noise.to(x)
    log_prob = flow.log_prob(x, data.train.context)
    values = log_prob.cpu().double().nan_to_num(-FAR).clamp(-FAR, FAR).numpy()
    quantiles = np.quantile(values, np.linspace(0, 1, NUM_QUANTILES))
    return tuple(float(f"{value:.9g}") for value in quantiles)
