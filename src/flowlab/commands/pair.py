"""One run against another: which is likelier on the test points, and by how much."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowlab.commands.forms import Figure, markdown
from flowlab.errors import ConfigError, one_line
from flowlab.runs.comparing import LEVEL, log_probs, share_points
from flowlab.runs.reading import read_run
from flowlab.runs.results import Run, distribution, varied
from flowlab.runs.settings import rounded


def against(folders: Sequence[Path]) -> str:
    """The difference of two runs' test log-likelihoods, with its standard error and p-value.

    It is paired over the test points, as density of each is known to both. Raises ConfigError, in
    words, for runs without such densities or of other data.
    """
    runs = [_completed(folder) for folder in folders]
    points = [_log_probs(run) for run in runs]
    paired = share_points(runs) and len(points[0]) == len(points[1])
    if not paired:
        _check_data(runs)
    means = [Figure(-p.mean(), _error(p)) for p in points]
    differing = [[axis.name, *(rounded(axis.of(run)) for run in runs)] for axis in varied(runs)]
    rows: list[Sequence[str | Figure]] = [
        ["run", *(one_line(folder) for folder in folders)],
        *differing,
        ["seed", *(_seed(run) for run in runs)],
        ["test NLL, nats", *means],
        ["parameters", *(f"{run.metrics['params']:.0f}" for run in runs)],
        ["seconds", *(f"{run.metrics['seconds']:.1f}" for run in runs)],
    ]
    said = _paired(*points) if paired else _unpaired(*points)
    return "\n".join([*markdown(["", "A", "B"], rows), "", *said]) + "\n"


def _completed(folder: Path) -> Run:
    try:
        run = read_run(folder)
    except Exception as error:  # whatever a stranger's folder trips over
        raise ConfigError(f"{folder}: {one_line(error, 200)}") from error
    if not run.completed:
        raise ConfigError(f"{folder}: the run is {run.metrics['status']}; expected a completed one")
    return run


def _log_probs(run: Run) -> Any:
    try:
        return log_probs(run).astype(np.float64)
    except KeyError as error:
        raise ConfigError(f"{run.folder}: it has no test/nll to compare") from error
    except (OSError, ValueError) as error:
        reason = f"{run.folder}: no log-densities of its test points ({one_line(error, 200)})"
        raise ConfigError(f"{reason}; runs by likelihood keep them, so train it again") from error


def _check_data(runs: Sequence[Run]) -> None:
    """Refuse runs whose test points are not even of one distribution."""
    first, second = map(distribution, runs)
    others = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    digests = {str(run.metrics.get("data/sha256")) for run in runs}
    if others or len(digests) > 1:
        key = others[0] if others else "data/sha256"
        values = " and ".join(str(run.metrics.get(key, run.value(key))) for run in runs)
        raise ConfigError(
            f"{runs[0].folder} and {runs[1].folder}: of other data, {key} is {values}; likelihoods "
            "of other data say nothing of each other"
        )


def _paired(a: Any, b: Any) -> list[str]:
    from scipy import stats

    with np.errstate(all="ignore"):
        p = float(stats.ttest_rel(a, b).pvalue) if len(a) > 1 and (a != b).any() else 1.0
    likelier = f"A is likelier at {np.mean(a > b):.1%} of them."
    return [*_difference(a - b, _error(a - b), p, "paired t-test"), likelier]


def _unpaired(a: Any, b: Any) -> list[str]:
    from scipy import stats

    p = float(stats.ttest_ind(a, b, equal_var=False).pvalue)
    said = "Their test points are not the same ones, so that this is far less exact than in pairs:"
    error = math.hypot(_error(a), _error(b))
    return [said, *_difference(a.mean() - b.mean(), error, p, "Welch's t-test")]


def _difference(difference: Any, error: float, p: float, test: str) -> list[str]:
    gap = float(np.mean(difference))
    num = f" over {len(difference)} test points" if np.ndim(difference) else ""
    verdict = f"{'A' if gap > 0 else 'B'} is likelier" if p < LEVEL else "no difference to be seen"
    return [
        f"log-likelihood of A minus that of B: {gap:.4f} ± {error:.4f} nats per point{num}",
        f"{test}, two-sided: p = {p:.2g}, {verdict}. It is of these two flows, not of other seeds.",
    ]


def _error(values: Any) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _seed(run: Run) -> str:
    """The seed of the flow that is compared."""
    best = run.metrics.get("best_replicate")
    return str(run.seed) if best is None else f"{run.seed + best}, the best of its replicates"
