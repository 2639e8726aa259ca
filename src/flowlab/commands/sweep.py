"""Many runs from one command: their names, their checks, their failures, and what they end in."""

import hashlib
import json
import math
import multiprocessing as mp
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from flowlab import processes
from flowlab.commands.terminal import bug, logged
from flowlab.config import validate
from flowlab.errors import ConfigError, Finished, FlowlabError, OutputError, SweepError
from flowlab.files import write_whole
from flowlab.runs.directory import EVENT_FILES, holds_run, listed, lock, strangers

MAX_NAME = 100
# what a sweep leaves in its folder beside its cells
SWEEP_FILES: tuple[str, ...] = (
    "multirun.yaml",
    "results.*",
    "table.*",
    "plots",
    EVENT_FILES,
    "*.log",
)
SWEEP_FILES += ("study.db*", ".submitit", "optimization_results.yaml", ".*.part")


def cell_name(overrides: Sequence[str]) -> str:
    """A folder's name for a cell: its overrides, and a digest where they are too long or odd.

    What is of the sweep as a whole, `sweep=...` and `name=...`, is left out.

    >>> cell_name(["num_flows=2", "seed=0"])
    'num_flows=2,seed=0'
    >>> cell_name(["flow=[a/../b]"])
    'flow=_a_.._b_-0f52d5d8'
    """
    words = (word for word in overrides if not word.startswith(("sweep=", "name=")))
    exact = ",".join(w.removesuffix("=null") if w.startswith("~") else w for w in words)
    name = re.sub(r"[^\w.=,+~-]", "_", exact)[:MAX_NAME]
    if name != exact or name.startswith("."):
        name += "-" + hashlib.sha256(exact.encode()).hexdigest()[:8]
    return name.lstrip(".")


OmegaConf.register_new_resolver("cell_name", cell_name, replace=True)


def check_sweep(config: DictConfig) -> None:
    """Compose and check all cells of a sweep, or some of a search, before the first starts.

    Raises ConfigError, naming the cell, and for a sweep that would write outside its directory.
    """
    loader, folder = GlobalHydra.instance().config_loader(), Path(config.hydra.sweep.dir).resolve()
    _check_folder(folder)
    _check_values(config)
    _check_launcher(config)
    from flowlab.parts import check_parts, import_extensions
    from flowlab.runs.resume import check_resume

    taken: set[Path] = set()
    for i, overrides in enumerate(_cells(config)):
        cell = loader.load_sweep_config(config, overrides)
        with open_dict(cell):
            cell.hydra.job.num = cell.hydra.job.id = i
        try:
            _check_shared(cell, config, overrides)
            subdir = cell.hydra.sweep.subdir
            run_dir = (folder / str(subdir)).resolve()
            if run_dir in taken or run_dir == folder or not run_dir.is_relative_to(folder):
                allowed = "a folder within hydra.sweep.dir, another for each cell"
                raise ConfigError(f"hydra.sweep.subdir={subdir}: expected {allowed}")
            taken.add(run_dir)
            if holds_run(run_dir):
                cell.ckpt_path = str(run_dir)
            validate(cell)
            import_extensions(cell.get("extensions") or ())
            check_resume(cell)
            check_parts(cell)
            if processes.count(cell) > 1:
                raise ConfigError(
                    f"trainer.devices={cell.trainer.devices}: a cell of a sweep is one process; "
                    "run it without -m, or cells side by side with hydra/launcher=joblib"
                )
        except Finished:
            continue
        except FlowlabError as error:
            raise type(error)(f"{error} (in the cell {' '.join(overrides)})") from error
    lock(folder, "hydra.sweep.dir")
    if "storage" in config.hydra.sweeper:
        from flowlab.commands.study import go_on

        go_on(config.hydra.sweeper, folder)


def _check_shared(cell: DictConfig, config: DictConfig, overrides: Sequence[str]) -> None:
    """Check what all cells of a sweep have in common: its name, and no run that changes meanwhile.

    Raises ConfigError.
    """
    if cell.get("name") != config.get("name"):
        raise ConfigError(f"name={cell.get('name')}: expected one name, of the sweep as a whole")
    if not (cell_name(overrides) or cell.hydra.sweep.subdir):
        raise ConfigError("-m: expected keys of its cells, as num_flows=2,4")
    if cell.get("ckpt_path") == "latest":
        raise ConfigError("ckpt_path=latest: in a sweep expected the path of a run")


def _check_folder(folder: Path) -> None:
    """Check that there is nothing but runs in a folder, and what a sweep leaves beside them."""
    names = strangers(folder, SWEEP_FILES) if folder.is_dir() else []
    patterns = (".hydra", "*/.hydra", "*/*/.hydra")  # a cell's folder may be below others
    others = [n for n in names if not any(next((folder / n).glob(p), None) for p in patterns)]
    if others:
        raise OutputError(
            f"{folder}: holds {listed(others)}; a sweep needs an absent or an empty folder, or one "
            "of a sweep to go on with: choose another hydra.sweep.dir"
        )


def _check_launcher(config: DictConfig) -> None:
    if config.hydra.launcher["_target_"].endswith("SlurmLauncher") and not shutil.which("srun"):
        hint = "hydra/launcher=joblib runs cells side by side"
        raise ConfigError(f"hydra/launcher=submitit_slurm: this machine has no Slurm; {hint}")


def _check_values(config: DictConfig) -> None:
    """Check that no axis has a value twice: both cells would be the same run, in one folder."""
    for override in _axes(config):
        values = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
        if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
            key = override.get_key_element()
            said = f"{key}={','.join(values)}: has {', '.join(twice)} more than once"
            raise ConfigError(f"{said}; seed=0,1 or replicates=2 repeat a run with another seed")


def _axes(config: DictConfig) -> list[Override]:
    """What the cells of a sweep are made of: its parameters, and the words of the command line."""
    params = config.hydra.sweeper.get("params") or {}
    words = [f"{key}={value}" for key, value in params.items()]
    return OverridesParser.create().parse_overrides([*words, *config.hydra.overrides.task])


def _cells(config: DictConfig) -> Iterator[list[str]]:
    """The overrides of each cell, as Hydra's own sweeper makes them.

    Of a search, which draws its cells, so many that each end and choice is in one of them: the
    first ends of all axes together, the last ones together, and the choices between.
    """
    overrides = _axes(config)
    if config.hydra.sweeper["_target_"].endswith(BasicSweeper.__name__):
        for batch in BasicSweeper.split_arguments(overrides, None):
            yield from (list(cell) for cell in batch)
    else:
        last = {override.get_key_element(): override for override in overrides}
        ends = [_ends(override) for override in last.values()]
        for i in range(max(map(len, ends), default=0)):
            yield [of_axis[min(i, len(of_axis) - 1)] for of_axis in ends]


def _ends(override: Override) -> list[str]:
    """An override with each of its values, of an interval or a range the two ends."""
    key, value = override.get_key_element(), override.value()
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if isinstance(value, IntervalSweep):
        ends = [str(value.start), str(value.end)]
    else:
        ends = list(override.sweep_string_iterator())
        ends = [ends[0], ends[-1]] if isinstance(value, RangeSweep) else ends
    return [f"{key}={end}" for end in dict.fromkeys(ends)]


def run_cell(task: Callable[[DictConfig], Any], cfg: DictConfig) -> float:
    """Run one cell, or go on with it; any error is told and leaves the other cells their turn.

    Returns its validation loss, what a search minimizes; infinity for a cell that failed.
    """
    from flowlab.runs.figures import rank_of

    run_dir = Path(str(cfg.run_dir))
    if holds_run(run_dir):
        cfg.ckpt_path = str(run_dir)
    if mp.get_start_method(allow_none=True) == "loky":  # joblib's, with a share of the cores
        cfg.num_threads = min(cfg.num_threads, int(os.environ["OMP_NUM_THREADS"]))
    try:
        metrics = task(cfg)
    except Finished as error:
        print(error)
        metrics = json.loads((run_dir / "metrics.json").read_bytes())
    except Exception as error:
        line = " ".join(str(error).split())
        if not isinstance(error, FlowlabError | HydraException):  # not the user's mistake
            if not (where := logged(error)):
                traceback.print_exc()
            line = bug(error, where or "above")
        print(f"error: {line}", file=sys.stderr)
        if not isinstance(error, OutputError):  # as it may be another command's
            _mark_as_failed(run_dir / "metrics.json", error)
        return math.inf
    loss = float(metrics[rank_of(metrics)])
    return loss if math.isfinite(loss) else math.inf


def _mark_as_failed(path: Path, error: Exception) -> None:
    """Have a cell's metrics say that it failed, if they do not yet, for the report to count it."""
    with suppress(OSError, ValueError):
        metrics = json.loads(path.read_bytes())
        if metrics["status"] == "completed":
            metrics |= {"status": "failed", "error": str(error)}
            write_whole(path, json.dumps(metrics, indent=2).encode())


def finish_sweep(config: DictConfig) -> None:
    """Report on a sweep; raises SweepError if a cell failed, or the report itself."""
    from flowlab.commands.report import report

    folder = Path(config.hydra.sweep.dir)
    try:
        failures = report([folder], folder)
    except OSError as error:
        raise OutputError(f"{folder}: the report cannot be written ({error})") from error
    except FlowlabError:
        raise
    except Exception as error:  # Hydra makes a warning of what it does not know
        reason = f"{type(error).__name__}: {error}"
        raise SweepError(f"{folder}: the report failed ({reason}); the runs are there") from error
    if failures:
        raise SweepError(f"{failures} of the runs in {folder} failed; the table above says why")
