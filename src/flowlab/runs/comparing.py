"""How cells differ: over their seeds, over the test points that they share, over data sets."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.runs import likelihoods
from flowlab.runs.results import Cell, Ranking, Run

PAIRED, WELCH = "paired t-test over the seeds", "Welch's t-test"
OVER_POINTS = "paired t-test over the test points of one seed each"
OVER_BOTH = "t-test over the seeds and the test points, which all share"
LEVEL = 0.05
FEW = 10  # data sets, below which Demsar finds the tests of ranks too rough


def compare(best: Cell, other: Cell, measure: str) -> tuple[float, str]:
    """Two-sided p-value for equal means, and the test.

    Over the seeds: paired where both have the same ones, for then they share points,
    initialisation and order, so that their difference is known better than either. Of an NLL that
    all runs have of the same test points these are drawn at random too, so that

        t = d / sqrt(v / R + w / N)

    with the mean difference d, its variance v over R seeds and w, paired, over N points, which has
    the degrees of freedom that Welch and Satterthwaite give it. The part that is random in both is
    in it twice: it errs towards no difference. nan where a single seed has no such points.
    """
    first, second = best.by_seed(measure), other.by_seed(measure)
    points = _difference(best, other) if measure == "test/nll" else None
    several = min(len(first), len(second)) > 1
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        if several and points is not None:
            p, test = _over_both(first, second, points), OVER_BOTH
        elif several:
            p, test = _over_seeds(first, second)
        elif points is not None and len(first) == len(second):
            p, test = _stats().ttest_1samp(points, 0).pvalue, OVER_POINTS
        else:
            return math.nan, ""
    return 1.0 if math.isnan(p) else float(p), test  # nan where there is no difference at all


def _stats() -> Any:
    from scipy import stats

    return stats


def _over_seeds(first: dict[int, float], second: dict[int, float]) -> tuple[float, str]:
    if first.keys() == second.keys():
        pairs = [(first[seed], second[seed]) for seed in first]
        return _stats().ttest_rel(*zip(*pairs, strict=True)).pvalue, PAIRED
    samples = list(first.values()), list(second.values())
    return _stats().ttest_ind(*samples, equal_var=False).pvalue, WELCH


def _over_both(
    first: dict[int, float], second: dict[int, float], points: NDArray[np.float64]
) -> float:
    a, b = np.array(list(first.values())), np.array(list(second.values()))
    if first.keys() == second.keys():
        parts = [_part(a - np.array([second[seed] for seed in first]))]
    else:
        parts = [_part(a), _part(b)]
    parts.append(_part(points))
    variance = sum(part for part, _ in parts)
    df = variance**2 / sum(part**2 / df for part, df in parts)
    return float(2 * _stats().t.sf(abs(a.mean() - b.mean()) / np.sqrt(variance), df))


def _part(values: NDArray[np.float64]) -> tuple[np.float64, int]:
    """The squared standard error of a mean, and its degrees of freedom."""
    return values.var(ddof=1) / len(values), len(values) - 1


def _difference(best: Cell, other: Cell) -> NDArray[np.float64] | None:
    """How much more likely `best` is than `other` at each test point, of the mean over its runs.

    Of replicates it is that of the best flow. None where not all runs have the same points.
    """
    if not share_points([*best.runs, *other.runs]):
        return None
    try:
        means = [np.mean([log_probs(run) for run in cell.runs], axis=0) for cell in (best, other)]
    except (OSError, ValueError):  # damaged, or a stranger's
        return None
    same: bool = len(means[0]) == len(means[1]) > 1
    return np.subtract(*means, dtype=np.float64) if same else None


def share_points(runs: Sequence[Run]) -> bool:
    """Whether all runs keep log-densities, and of the same test points."""
    digests = {str(run.metrics.get(likelihoods.POINTS)) for run in runs}
    return len(digests) == 1 and "None" not in digests


def log_probs(run: Run) -> NDArray[np.float32]:
    """The log-density of each test point, of replicates by the best. Raises OSError, ValueError."""
    return likelihoods.read(
        run.folder, run.values("test/nll")[run.metrics.get("best_replicate", 0)]
    )


class Standing(NamedTuple):
    """The mean rank of each cell over data sets, and what can be said of their differences.

    `p` is that of Friedman's test for all being alike, and `critical` the difference of two mean
    ranks that Nemenyi's test finds significant at 5 percent,

        q sqrt(k (k + 1) / (6 N)),   q the 95 % point of the studentized range / sqrt(2)

    for k cells and N data sets; both are nan for fewer than three cells.

    Reference: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7,
    2006, section 3.2.2.
    """

    ranks: dict[tuple[str, ...], float]
    p: float = math.nan
    critical: float = math.nan


def standing(rankings: Sequence[Ranking]) -> Standing:
    """Mean ranks by the figure that each data set compares, 1 for the best; equals share theirs.

    A cell that a data set lacks, as its runs failed, is the last there.
    """
    cells = list(dict.fromkeys(cell.values for ranking in rankings for cell in ranking.cells))
    scores = np.full((len(rankings), len(cells)), np.inf)
    for i, ranking in enumerate(rankings):
        sign = -1 if ranking.measure == "test/elbo" else 1
        for cell in ranking.cells:
            scores[i, cells.index(cell.values)] = sign * cell.mean(ranking.measure)
    k, n, stats = len(cells), len(rankings), _stats()
    ranks = dict(zip(cells, stats.rankdata(scores, axis=1).mean(0).tolist(), strict=True))
    if k < 3:
        return Standing(ranks)
    with np.errstate(all="ignore"):
        p = float(stats.friedmanchisquare(*scores.T).pvalue)
    q = stats.studentized_range.ppf(1 - LEVEL, k, np.inf) / math.sqrt(2)
    return Standing(ranks, p, float(q * math.sqrt(k * (k + 1) / (6 * n))))
