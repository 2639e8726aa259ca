"""The results of many runs, folded into cells, and these into a ranking for each data set."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowlab.runs.figures import TESTS, rank_of
from flowlab.runs.settings import follows, resolved, short, text, title

SIZES = ("num_", "batch_size", "seed")  # of data from one distribution
CHOSEN = ("num_", "flow.", "optimizer.lr", "trainer.", "data.num_", "data.batch_size")


class Run(NamedTuple):
    """One run: its folder, its seed, its settings and what its metrics.json holds."""

    folder: Path
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def completed(self) -> bool:
        return self.metrics.get("status") == "completed"

    @property
    def rank(self) -> str:
        """The figure by which it is ranked: its loss on the validation set."""
        return rank_of(self.metrics)

    @property
    def step_ms(self) -> float:
        """Milliseconds of training for each step, of all replicates together; nan if unknown."""
        steps: Any = self.metrics.get("steps")
        known = type(steps) is int and 0 < steps < 2**63
        return 1000 * float(self.metrics["seconds"]) / float(steps) if known else math.nan

    def value(self, key: str) -> str:
        """What the run had for a key, as text; `-` if it has no such key."""
        return text(resolved(self.settings, key)) if key in self.settings else "-"

    def values(self, measure: str) -> list[float]:
        """A measure of each of the run's replicates, which have the seeds from `seed` on."""
        values = self.metrics.get("replicates", {}).get(measure, [self.metrics[measure]])
        return list(map(float, values))


class Axis(NamedTuple):
    """A key in which runs differ: what it is called, and what its values are called."""

    key: str
    name: str
    names: dict[str, str]

    def of(self, run: Run) -> str:
        return self.names[run.value(self.key)]


class Cell(NamedTuple):
    """The completed runs, or replicates in one, that differ in their seed alone."""

    values: tuple[str, ...]
    runs: list[Run]

    def by_seed(self, measure: str) -> dict[int, float]:
        """The values of all runs and replicates, each seed once."""
        return {run.seed + i: v for run in self.runs for i, v in enumerate(run.values(measure))}

    def mean(self, measure: str) -> float:
        return float(np.mean(list(self.by_seed(measure).values())))

    def error(self, measure: str) -> float:
        """Standard error of the mean; nan for a single seed."""
        values = list(self.by_seed(measure).values())
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan

    def step_ms(self) -> float:
        """Milliseconds for each step, a mean over the runs."""
        return float(np.mean([run.step_ms for run in self.runs]))

    def has(self, measure: str) -> bool:
        return all(measure in run.metrics for run in self.runs)


class Ranking(NamedTuple):
    """The cells of one data set, the lowest mean validation loss first, as a search minimizes it.

    Its data set has a name if there are others.
    """

    data: str
    axes: list[str]
    cells: list[Cell]

    @property
    def measure(self) -> str:
        """What to compare: the first of `TESTS` that all have."""
        return next(test for test in TESTS if all(cell.has(test) for cell in self.cells))

    @property
    def rank(self) -> str:
        """The figure by which cells are ranked."""
        return self.cells[0].runs[0].rank

    def find(self, values: tuple[str, ...]) -> Cell | None:
        """The cell with these values; None if no run of it is completed."""
        return next((cell for cell in self.cells if cell.values == values), None)


def varied(runs: Sequence[Run]) -> list[Axis]:
    """The settings in which runs differ, in the order of the configuration.

    Left out is what follows another key in all runs, and what a choice decides, as the schedule
    does its warm-up, and the flow its depth where each flow has one.
    """
    axes = []
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        values = list(dict.fromkeys(run.value(key) for run in runs))
        own = any(key in run.settings and not follows(run.settings[key]) for run in runs)
        if own and len(values) > 1 and not _decided(key, runs):
            names = {value: short(key, value) for value in values}
            if len(set(names.values())) < len(names):
                names = {value: value for value in values}
            axes.append(Axis(key, title(key), names))
    return axes


def _decided(key: str, runs: Sequence[Run]) -> bool:
    """Whether runs with the same part that a key is an option of have the same value of the key.

    Of what the YAML of a flow or of a data set may set, runs with the same flow and data set.
    """
    choices = [f"{key.rpartition('.')[0]}._target_"]
    if key.startswith(CHOSEN):
        choices += ["flow.name", "data._target_", "data.target", "data.path"]
    made = {tuple(map(run.value, choices)) for run in runs}
    pairs = {tuple(map(run.value, [*choices, key])) for run in runs}
    return key not in choices and len(made) == len(pairs)


def rank(runs: Sequence[Run]) -> list[Ranking]:
    """One ranking for each data set with a completed run: they are not compared with each other."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(distribution(run).items())), []).append(run)
    keys = dict.fromkeys(key for distribution in groups for key, _ in distribution)
    differing = [axis for axis in varied(runs) if axis.key in keys]
    rankings = []
    for members in groups.values():
        axes, cells = varied(members), dict[tuple[str, ...], list[Run]]()
        for run in members:
            if run.completed:
                cells.setdefault(tuple(axis.of(run) for axis in axes), []).append(run)
        if cells:
            ranked = sorted(
                (Cell(*cell) for cell in cells.items()), key=lambda c: c.mean(c.runs[0].rank)
            )
            name = ", ".join(v for v in (axis.of(members[0]) for axis in differing) if v != "-")
            rankings.append(Ranking(name, [axis.name for axis in axes], ranked))
    return rankings


def shared(rankings: Sequence[Ranking]) -> list[Ranking]:
    """The data sets that can stand in one table: most of them, and at least two, with one axes."""
    kinds = [tuple(ranking.axes) for ranking in rankings]
    most = max(kinds, key=kinds.count, default=())
    chosen = [r for r, kind in zip(rankings, kinds, strict=True) if kind == most]
    return chosen if len(chosen) > 1 else []


def distribution(run: Run) -> dict[str, str]:
    """The settings that say which distribution a run's points are of, and what it minimizes."""
    keys = (key for key in run.settings if key.startswith("data."))
    kept = [key for key in keys if not key.split(".", 1)[1].startswith(SIZES)]
    return {key: run.value(key) for key in (*kept, "objective._target_")}
