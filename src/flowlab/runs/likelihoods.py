"""The log-density of each test point, which a run leaves beside its metrics for comparisons."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowlab.files import read_small, write_whole
from flowlab.runs.directory import LOG_PROBS

if TYPE_CHECKING:
    from torch import Tensor

MOST = 2**29  # bytes of such a file: 134 million points
POINTS = "test/sha256"  # the name in metrics.json of the digest of the test points
NEAR = 1e-3  # of the NLL in metrics.json, relatively, for the two to be of one flow


def keep(folder: Path, log_prob: "Tensor", points: "Sequence[Tensor | None]") -> dict[str, str]:
    """Write log-densities, (N,), as float32; what metrics.json says of their points."""
    buffer, sha256 = io.BytesIO(), hashlib.sha256()
    np.save(buffer, log_prob.float().cpu().numpy())
    write_whole(folder / LOG_PROBS, buffer.getvalue())
    for tensor in points:
        if tensor is not None:
            sha256.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            sha256.update(tensor.contiguous().cpu().numpy().data)
    return {POINTS: sha256.hexdigest()}


def read(folder: Path, nll: float) -> NDArray[np.float32]:
    """What `keep` wrote: (N,), of a flow of this NLL. Raises OSError and ValueError."""
    content = io.BytesIO(read_small(folder / LOG_PROBS, MOST))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{LOG_PROBS}: not a file of this kind")
    shape, _, kind = np.lib.format.read_array_header_1_0(content)
    size = len(content.getbuffer()) - content.tell()
    if kind != np.float32 or len(shape) != 1 or shape[0] < 1 or 4 * shape[0] != size:
        raise ValueError(f"{LOG_PROBS}: not one float32 a point")
    values: NDArray[Any] = np.frombuffer(content.getbuffer(), np.float32, offset=content.tell())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = -float(values.mean(dtype=np.float64))
    if not abs(mean - nll) <= NEAR * (1 + abs(nll)):
        raise ValueError(f"{LOG_PROBS}: an NLL of {mean:.4f}, and metrics.json says {nll:.4f}")
    return values
