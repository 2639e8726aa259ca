"""Training points that have no density, or one without bound."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from torch import Tensor

from flowlab import processes
from flowlab.data.columns import Columns
from flowlab.data.data import Points
from flowlab.data.reading import key_of, leave_out
from flowlab.errors import DataError
from flowlab.rng import generator

log = logging.getLogger(__name__)

CHUNK = 16_384  # rows in float64 at once, so that a large table costs no second copy
SAMPLE = 100_000  # rows to look for suspects in
EXACT = 1e-10  # of a column's variance: what others may leave of it, for they are rounded
FEW = 100  # values
SHARE = 0.1  # of all rows


def check_density(label: str, columns: Columns, train: Points) -> None:
    """Check that training points have a density.

    Raises DataError for columns that are constant, equal to another, or an exactly linear function
    of others. Those with noise are none of this.
    """
    names = columns.context + columns.names
    noise = np.array((0.0,) * len(columns.context) + columns.noise)
    parts = [part for part in (train.context, train.x) if part is not None]
    low, high = (torch.cat([limit(part) for part in parts]) for limit in (_lowest, _highest))
    if constant := np.flatnonzero((low == high).numpy() & (noise == 0)).tolist():
        said = ", ".join(f"{names[j]} ({float(low[j]):g})" for j in constant)
        help = f"{leave_out([names[j] for j in constant])} leaves out"
        if constant[0] < len(columns.context):
            help = "lower data.context"
        raise DataError(f"{label}: the same in all training rows: column {said}; {help}")
    plain = np.flatnonzero(noise == 0).tolist()
    some = [part[:: -(-len(part) // CHUNK)] for part in parts]
    found = dependent(some, plain)
    if any(j >= len(columns.context) for j in found):
        found = dependent(parts, plain)  # of some rows may not be of all
        if len(usual := _without_extremes(some)) > 2 * len(names):
            inside = dependent([usual], plain)  # a single row that is far out correlates all
            found = {j: others for j, others in found.items() if j in inside}
    if found := {j: others for j, others in found.items() if j >= len(columns.context)}:
        said = "; ".join(_say_dependent(names, parts, j, others) for j, others in found.items())
        raise DataError(
            f"{label}: {said}; such rows have no density; "
            f"{leave_out([names[j] for j in found])} leaves out"
        )


def dependent(parts: Sequence[Tensor], chosen: Sequence[int]) -> dict[int, list[int]]:
    """The columns among those chosen that are linear in others before them, with these others.

    `parts` are columns side by side. By a Cholesky decomposition of the correlations: the square of
    a diagonal entry is what is left of a column's variance after its regression on those before.
    """
    correlation = _correlation(parts)
    basis: list[int] = []
    found: dict[int, list[int]] = {}
    root = np.zeros_like(correlation)
    for j in chosen:
        n = len(basis)
        row = (
            solve_triangular(root[:n, :n], correlation[basis, j], lower=True) if n else root[0, :0]
        )
        if (left := 1 - row @ row) > EXACT:
            root[n, :n], root[n, n] = row, left**0.5
            basis.append(j)
        else:
            weights = solve_triangular(root[:n, :n], row, lower=True, trans="T")
            found[j] = [k for k, weight in zip(basis, weights, strict=True) if abs(weight) > 1e-5]
    return found


def warn_of_values(label: str, columns: Columns, x: Tensor, seed: int) -> None:
    """Log which coordinates without noise have few values, or one that many rows share."""
    few, shared, steps = [], [], []
    index = torch.randint(len(x), (SAMPLE,), generator=generator("data/suspects", seed))
    for j, name in enumerate(columns.names):
        if columns.noise[j]:
            continue
        some = x[index, j] if len(x) > SAMPLE else x[:, j]
        values, counts = torch.unique(some, return_counts=True)
        if len(values) <= min(FEW, len(some) / 5):
            values = torch.unique(x[:, j])
            few.append(f"{name} has {len(values)} values")
            steps += [f"{key_of(name)}: {step:.3g}"] if (step := step_of(values)) else []
        elif counts.max() >= max(2, SHARE * len(some)):
            value = values[counts.argmax()]
            share = float((x[:, j] == value).double().mean())
            shared.append(f"{name} is {float(value):g} in {share:.0%} of the rows")
    if (few or shared) and processes.is_first():
        helps = [f"'data.noise={{{', '.join(steps)}}}' spreads values over their step"] * bool(
            steps
        )
        log.warning(
            f"warning: {label}: {', '.join(few + shared)}: there the density is without bound, and "
            f"its NLL means nothing; {'; '.join([*helps, 'data.drop leaves columns out'])}"
        )


def step_of(values: Tensor) -> float:
    """The step of the grid that ordered values lie on; 0 if they lie on none.

    >>> step_of(torch.tensor([1.0, 1.5, 3.0])), step_of(torch.tensor([1.0, 1.5, 2.2]))
    (0.5, 0.0)
    """
    steps = values.double().diff()
    counts = steps / steps.min()
    return float(steps.min()) if (counts - counts.round()).abs().max() < 0.02 else 0.0


def warn_of_copies(label: str, train: Points, test: Points) -> None:
    """Log how many training rows are also in the test split."""
    tests = np.sort(np.concatenate(list(_hashes(test))))
    num = sum(_among(tests, some) for some in _hashes(train))
    if num and processes.is_first():
        log.warning(
            f"warning: {label}: {num} of {len(train.x)} training rows are also in the test split, "
            "so that test/nll says less about new rows"
        )


def _among(ordered: NDArray[np.uint64], some: NDArray[np.uint64]) -> int:
    place = np.searchsorted(ordered, some).clip(max=len(ordered) - 1)
    return int((ordered[place] == some).sum())


def _hashes(points: Points) -> Iterator[NDArray[np.uint64]]:
    """A number for each row, equal for equal rows and, but for one in 2^64 pairs, only for them."""
    for i in range(0, len(points.x), CHUNK):
        parts = [part[i : i + CHUNK].double() for part in points if part is not None]
        bits = (torch.cat(parts, -1) + 0.0).numpy().view(np.uint64)  # -0.0 is 0.0
        state = np.zeros(len(bits), np.uint64)
        for column in bits.T:  # a round of multiplying, which mixes upwards, and folding back
            state = (state ^ column) * np.uint64(0xFF51AFD7ED558CCD)
            state ^= state >> np.uint64(32)
        yield state


def _correlation(parts: Sequence[Tensor]) -> NDArray[np.float64]:
    """Of columns side by side, in float64."""

    def chunk(i: int) -> Tensor:
        return torch.cat([part[i : i + CHUNK].double() for part in parts], -1)

    num = len(parts[0])
    mean = torch.stack([chunk(i).sum(0) for i in range(0, num, CHUNK)]).sum(0) / num
    gram = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for i in range(0, num, CHUNK):
        z = chunk(i) - mean
        gram += z.T @ z
    scale = gram.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    found: NDArray[np.float64] = (gram / scale / scale.unsqueeze(1)).numpy()
    return found


def _say_dependent(names: Sequence[str], parts: Sequence[Tensor], j: int, others: list[int]) -> str:
    x = torch.cat([part[:1000] for part in parts], -1)
    equal = len(others) == 1 and torch.equal(x[:, j], x[:, others[0]])
    verb = "equals" if equal else "follows exactly from"
    return f"column {names[j]} {verb} {' and '.join(names[k] for k in others)}"


def _without_extremes(parts: Sequence[Tensor]) -> Tensor:
    """The rows in which all columns are within the middle 98 % of theirs, side by side."""
    x = torch.cat(list(parts), -1).double()
    low, high = x.quantile(0.01, dim=0), x.quantile(0.99, dim=0)
    return x[((x >= low) & (x <= high)).all(1)]


def _lowest(x: Tensor) -> Tensor:
    return x.amin(0)


def _highest(x: Tensor) -> Tensor:
    return x.amax(0)
