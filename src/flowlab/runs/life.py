"""The life of a run: its directory is claimed, and metrics.json says how it ended."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from flowlab.errors import FlowlabError, OutputError
from flowlab.files import write_whole
from flowlab.runs.directory import claim, release
from flowlab.runs.provenance import provenance
from flowlab.runs.summary import summary

log = logging.getLogger(__name__)

Metrics = dict[str, Any]


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[tuple[Path, Metrics]]:
    """The directory of a run, and the figures that metrics.json is going to have.

    Whatever ends the run, they are written, with its status. Raises OutputError for a directory
    that is another's or cannot be written to, and SystemExit with 130 or 143 after a signal.
    """
    run_dir = Path(str(cfg.run_dir))
    claim(run_dir, cfg.ckpt_path)
    metrics: Metrics = {"status": "failed", "seed": cfg.seed, "environment": provenance()}
    try:
        yield run_dir, metrics
        metrics["status"] = "completed"
        _write(metrics, run_dir)
    except BaseException as error:
        stopped = isinstance(error, SystemExit | KeyboardInterrupt)
        metrics["status"] = "interrupted" if stopped else "failed"
        if not stopped:
            metrics["error"] = str(error)
        if "epochs" in metrics or not (run_dir / "metrics.json").exists():
            with suppress(OSError):
                _write(metrics, run_dir)
        if stopped:
            again = f"; to go on, add ckpt_path={os.path.relpath(run_dir)} to the same command"
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
