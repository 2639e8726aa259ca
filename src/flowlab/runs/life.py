"""The life of a run: its directory is claimed, and metrics.json says how it ended."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from flowlab import processes
from flowlab.errors import FlowlabError, OutputError
from flowlab.files import write_whole
from flowlab.runs.checkpoints import checkpoint_file
from flowlab.runs.directory import claim, holds_run, release, run_of, shown, undo
from flowlab.runs.provenance import provenance
from flowlab.runs.resume import say_where_it_goes_on
from flowlab.runs.summary import summary

log = logging.getLogger(__name__)

Metrics = dict[str, Any]


class Run(NamedTuple):
    """A run on the disk."""

    folder: Path
    metrics: Metrics  # that metrics.json is going to have
    before: Path | None  # the directory of the run that it goes on with
    resume: Path | None  # and its checkpoint, if it has one yet
    epochs: int  # that were done before
    writes: bool  # whether this process does, and not another of the run's


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[Run]:
    """The directory of a run, for the time that it takes.

    Whatever ends the run, its metrics are written, with its status; but of a mistake that is found
    before the training, as in the data, nothing is left. Raises OutputError for a directory that is
    another's or cannot be written to, and SystemExit with 128 + its number after a signal. Of
    several processes all but the first write nothing.
    """
    run_dir = Path(str(cfg.run_dir))
    before = resume = None
    if cfg.ckpt_path is not None:
        before, resume = run_of(Path(str(cfg.ckpt_path))), checkpoint_file(cfg.ckpt_path)
    if not processes.is_first():
        yield Run(run_dir, {}, before, resume, 0, writes=False)
        return
    claim(run_dir, cfg.ckpt_path)
    metrics: Metrics = {"status": "failed", "seed": cfg.seed, "environment": provenance()}
    try:
        epochs = 0 if before is None else say_where_it_goes_on(cfg, resume)
        if before is not None and before != run_dir.resolve() and holds_run(before):
            metrics["resumed_from"] = os.path.relpath(before, run_dir)
        yield Run(run_dir, metrics, before, resume, epochs, writes=True)
        metrics["status"] = "completed"
        _write(metrics, run_dir)
    except BaseException as error:
        stopped = isinstance(error, SystemExit | KeyboardInterrupt)
        metrics["status"] = "interrupted" if stopped else "failed"
        if not stopped:
            metrics["error"] = str(error)
        begun = "epochs" in metrics
        mistake = isinstance(error, FlowlabError) and not (begun or _is_cell())
        with suppress(OSError):
            gone = mistake and undo(run_dir)
            if begun or not (gone or (run_dir / "metrics.json").exists()):
                _write(metrics, run_dir)
        if stopped:
            again = f"; to go on, add ckpt_path={shown(run_dir)} to the same command"
            log.info("interrupted" + ("" if _is_cell() else again))
            code = getattr(error, "code", 1)  # 1 is how Lightning passes a KeyboardInterrupt on
            raise SystemExit(130 if code == 1 else code) from error
        if isinstance(error, OSError) and not isinstance(error, FlowlabError):
            raise OutputError(f"{run_dir}: cannot be written to ({error})") from error
        raise
    finally:
        release(run_dir)
    log.info(summary(metrics, run_dir))


def _is_cell() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _write(metrics: Metrics, run_dir: Path) -> None:
    write_whole(run_dir / "metrics.json", json.dumps(metrics, indent=2).encode())
