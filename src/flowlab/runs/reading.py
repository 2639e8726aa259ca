"""Runs as their folders have them, which may be a stranger's: small files, nothing believed."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from flowlab.errors import one_line, printable
from flowlab.export import load
from flowlab.files import read_small
from flowlab.runs.figures import TESTS, rank_of
from flowlab.runs.results import Run
from flowlab.runs.settings import settings_of

MOST_CONFIG, MOST_METRICS = 2**16, 2**24  # bytes of a file
MOST_FLOW = 2**26  # of one to draw; that of a larger one is not looked at
MOST_DEPTH = 32  # of a configuration
MOST_KEYS = 1000
MOST_SIGNS = 400  # of a word or a reason
LARGEST = 1e30  # of a figure, so that sums of squares are numbers too


def collect(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """All runs below the folders, in the order of their names, and what was left out, and why.

    Of a run that went on in another folder the last one counts.
    """
    runs, left_out = [], []
    for path in sorted({p for folder in folders for p in folder.rglob(".hydra/config.yaml")}):
        folder = path.parent.parent
        try:
            runs.append(read_run(folder))
        except Exception as error:  # whatever a stranger's folder trips over
            left_out.append(f"{one_line(folder)}: {one_line(error, MOST_SIGNS)}")
    later = _later(runs)
    left_out += [f"{one_line(f)}: went on in {one_line(run.folder)}" for f, run in later.items()]
    return [run for run in runs if run.folder not in later], left_out


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's own, and not one that holds runs."""
    return (folder / ".hydra" / "config.yaml").exists()


def read_run(folder: Path) -> Run:
    """A run, if its files are what a run leaves; of a completed one the flow can be loaded.

    Its words are lines that a terminal can show. Raises OSError or ValueError, or what a file that
    is made up trips over.
    """
    config, metrics = _config(folder / ".hydra" / "config.yaml"), _metrics(folder)
    if metrics["status"] == "completed":
        flow_of(folder)  # raises where the pictures would
    seed = config.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError(f"seed={one_line(seed, 40)}: expected a whole number")
    settings = {printable(key): _shown(value) for key, value in settings_of(config).items()}
    if len(settings) > MOST_KEYS or any(len(key) > MOST_SIGNS for key in settings):
        raise ValueError("config.yaml: more or longer keys than a run has")
    return Run(folder, seed, settings, metrics)


def flow_of(folder: Path) -> Any:
    """The flow of a completed run, as `load` gives it; None of one that is too large to draw."""
    path = folder / "flow.safetensors"
    too_large = path.is_file() and path.stat().st_size > MOST_FLOW
    return None if too_large else load(folder)


def _shown(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else printable(value)


def _config(path: Path) -> dict[str, Any]:
    """A configuration, with its interpolations unresolved; no alias and no depth can unfold in it.

    Raises ValueError for what is no table of settings.
    """
    text = read_small(path, MOST_CONFIG).decode()
    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MOST_DEPTH:
            raise ValueError(f"{path.name}: aliases, or deeper than a configuration is")
    config: Any = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    if not isinstance(config, dict):
        raise ValueError(f"{path.name}: expected a table of settings")
    return {str(key): value for key, value in config.items()}


def _metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json holds; of a completed run all figures that are compared are numbers."""
    path = folder / "metrics.json"
    if not path.exists():
        return {"status": "missing", "error": "no metrics.json: it did not end"}
    metrics: Any = json.loads(read_small(path, MOST_METRICS))
    if not isinstance(metrics, dict) or not isinstance(metrics.get("status"), str):
        raise ValueError("metrics.json: expected a table with a status")
    if metrics["status"] == "completed":
        _check_figures(metrics)
    words = ("status", "error", "sha256")
    return metrics | {key: one_line(metrics[key], 1000) for key in words if key in metrics}


def _check_figures(metrics: dict[str, Any]) -> None:
    tests = [test for test in TESTS if test in metrics]
    if not tests:
        raise ValueError(f"no figure of a test; expected one of {', '.join(TESTS)}")
    replicates = metrics.get("replicates", {})
    measures = (rank_of(metrics), *tests)
    if not isinstance(replicates, dict) or not all(
        isinstance(replicates.get(measure, []), list) for measure in measures
    ):
        raise ValueError("replicates: expected a table of lists")
    for measure in (*measures, "params", "seconds"):
        for value in (metrics.get(measure), *replicates.get(measure, [])):
            if type(value) not in (int, float) or not abs(value) < LARGEST:
                raise ValueError(f"{measure} is not a finite number of a size that runs have")
    num = min(len(replicates.get(measure, [0])) for measure in measures)
    if metrics.get("best_replicate", 0) not in range(num):
        raise ValueError(f"best_replicate: expected one of the {num}")


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
        metrics = json.loads(read_small(folder / "metrics.json", MOST_METRICS))
        return Path(folder, metrics["resumed_from"]).resolve()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    try:
        hydra = folder / ".hydra"
        if (named := _config(hydra / "config.yaml").get("ckpt_path")) is None:
            return None
        cwd = _config(hydra / "hydra.yaml")["hydra"]["runtime"]["cwd"]
        path = Path(cwd, named).resolve()
    except Exception:  # whatever a stranger's files trip over
        return None
    return path.parent.parent if path.suffix == ".ckpt" else path
