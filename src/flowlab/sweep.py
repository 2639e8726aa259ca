"""Many runs from one command: their names, their checks, their failures, and what they end in."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from flowlab.config import validate
from flowlab.errors import ConfigError, Finished, FlowlabError, SweepError
from flowlab.files import holds_run

MAX_NAME = 100


def cell_name(overrides: Sequence[str]) -> str:
    """A folder's name for a cell: its overrides, and a digest where they are too long or odd.

    >>> cell_name(["num_flows=2", "seed=0"])
    'num_flows=2,seed=0'
    >>> cell_name(["flow=[a/../b]"])
    'flow=_a_.._b_-0f52d5d8'
    """
    exact = ",".join(o.removesuffix("=null") if o.startswith("~") else o for o in overrides)
    name = re.sub(r"[^\w.=,+~-]", "_", exact)[:MAX_NAME]
    if name != exact or name.startswith("."):
        name += "-" + hashlib.sha256(exact.encode()).hexdigest()[:8]
    return name.lstrip(".")


OmegaConf.register_new_resolver("cell_name", cell_name, replace=True)


def check_sweep(config: DictConfig) -> None:
    """Compose and check all cells of a sweep before the first of them starts.

    Raises ConfigError, naming the cell, and for a sweep that would write outside its directory.
    """
    loader, folder = GlobalHydra.instance().config_loader(), Path(config.hydra.sweep.dir).resolve()
    taken: set[Path] = set()
    for i, overrides in enumerate(_cells(config)):
        cell = loader.load_sweep_config(config, overrides)
        with open_dict(cell):
            cell.hydra.job.num = cell.hydra.job.id = i
        try:
            subdir = cell.hydra.sweep.subdir
            run_dir = (folder / str(subdir)).resolve()
            if run_dir in taken or run_dir == folder or not run_dir.is_relative_to(folder):
                allowed = "a folder within hydra.sweep.dir, another for each cell"
                raise ConfigError(f"hydra.sweep.subdir={subdir}: expected {allowed}")
            taken.add(run_dir)
            if cell.ckpt_path is None and holds_run(run_dir):
                cell.ckpt_path = str(run_dir)
            validate(cell)
        except Finished:
            continue
        except FlowlabError as error:
            raise type(error)(f"{error} (in the cell {' '.join(overrides)})") from error


def _cells(config: DictConfig) -> Iterator[list[str]]:
    """The overrides of each cell, as Hydra's own sweeper makes them."""
    sweeper = config.hydra.sweeper
    if not sweeper["_target_"].endswith(BasicSweeper.__name__):
        return
    words = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*words, *config.hydra.overrides.task])
    for batch in BasicSweeper.split_arguments(overrides, None):
        yield from (list(cell) for cell in batch)


def run_cell(task: Callable[[DictConfig], Any], cfg: DictConfig) -> None:
    """Run one cell, or go on with it; its error is told and leaves the other cells their turn."""
    run_dir = Path(str(cfg.run_dir))
    if cfg.ckpt_path is None and holds_run(run_dir):
        cfg.ckpt_path = str(run_dir)
    try:
        task(cfg)
    except Finished as error:
        print(error)
    except FlowlabError as error:
        print(f"error: {error}", file=sys.stderr)


def finish_sweep(config: DictConfig) -> None:
    """Report on a sweep; raises SweepError if a cell failed."""
    from flowlab.report import report

    folder = Path(config.hydra.sweep.dir)
    if failures := report([folder], folder):
        raise SweepError(f"{failures} of the runs in {folder} failed; the table above says why")
