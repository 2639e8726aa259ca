"""The results of many runs: read from their folders, compared, and folded into cells."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from flowlab.export import load
from flowlab.runs.figures import TESTS, rank_of
from flowlab.runs.settings import follows, resolved, settings_of, short, text, title

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


def collect(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """All runs below the folders, in the order of their names, and what was left out, and why.

    Of a run that went on in another folder the last one counts.
    """
    runs, left_out = [], []
    for path in sorted({p for folder in folders for p in folder.rglob(".hydra/config.yaml")}):
        folder = path.parent.parent
        try:
            config: Any = OmegaConf.to_container(OmegaConf.load(path))
            metrics = _metrics(folder)
            if metrics["status"] == "completed":
                load(folder)  # raises where the pictures would
            runs.append(Run(folder, int(config.get("seed", 0)), settings_of(config), metrics))
        except Exception as error:  # whatever a stranger's folder trips over
            left_out.append(f"{folder}: {' '.join(str(error).split())[:300]}")
    later = _later(runs)
    left_out += [f"{f}: went on in {run.folder}" for f, run in later.items()]
    return [run for run in runs if run.folder not in later], left_out


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.exists():
        return {"status": "missing", "error": "no metrics.json: it did not end"}
    metrics = dict(json.loads(path.read_bytes()))
    if metrics["status"] == "completed":
        tests = [test for test in TESTS if test in metrics]
        if not tests:
            raise ValueError(f"no figure of a test; expected one of {', '.join(TESTS)}")
        for measure in (rank_of(metrics), *tests, "params", "seconds"):
            replicates = metrics.get("replicates", {}).get(measure, [])
            if not all(map(math.isfinite, [metrics[measure], *replicates])):
                raise ValueError(f"{measure} is not finite")
    return metrics | {"status": str(metrics["status"])}


def _later(runs: Sequence[Run]) -> dict[Path, Run]:
    """Folders of runs that another of the runs went on from, with that one.

    A completed run stays unless the other one is completed too.
    """
    here, later = {run.folder.resolve(): run for run in runs}, {}
    for run in runs:
        passed, before = {run.folder.resolve()}, _before(run.folder)
        while before is not None and before not in passed:
            if before in here and (run.completed or not here[before].completed):
                later[here[before].folder] = run
            passed.add(before)
            before = _before(before)
    return later


def _before(folder: Path) -> Path | None:
    """The folder of the run that a run went on from: as its metrics say, or it was told to."""
    try:
        metrics = json.loads((folder / "metrics.json").read_bytes())
        return Path(folder, metrics["resumed_from"]).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        hydra = folder / ".hydra"
        named = OmegaConf.load(hydra / "config.yaml").ckpt_path
        path = Path(OmegaConf.load(hydra / "hydra.yaml").hydra.runtime.cwd, named).resolve()
    except Exception:  # no ckpt_path, or whatever a stranger's files trip over
        return None
    return path.parent.parent if path.suffix == ".ckpt" else path


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
        choices += ["flow.name", "data.target"]
    made = {tuple(map(run.value, choices)) for run in runs}
    pairs = {tuple(map(run.value, [*choices, key])) for run in runs}
    return key not in choices and len(made) == len(pairs)


def rank(runs: Sequence[Run]) -> list[Ranking]:
    """One ranking for each data set with a completed run: they are not compared with each other."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(_distribution(run).items())), []).append(run)
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


def across(rankings: Sequence[Ranking]) -> list[tuple[str, ...]]:
    """The cells of several data sets with the same axes, the lowest mean rank first; else none.

    A cell that a data set lacks, as its runs failed, is the last there.
    """
    if len(rankings) < 2 or len({tuple(ranking.axes) for ranking in rankings}) > 1:
        return []
    orders = [[cell.values for cell in ranking.cells] for ranking in rankings]
    cells = dict.fromkeys(values for order in orders for values in order)
    ranks = {v: [o.index(v) if v in o else len(cells) for o in orders] for v in cells}
    return sorted(cells, key=lambda values: sum(ranks[values])) if rankings[0].axes else []


def _distribution(run: Run) -> dict[str, str]:
    """The settings that say which distribution a run's points are of, and what it minimizes."""
    keys = (key for key in run.settings if key.startswith("data."))
    kept = [key for key in keys if not key.split(".", 1)[1].startswith(SIZES)]
    return {key: run.value(key) for key in (*kept, "objective._target_")}
