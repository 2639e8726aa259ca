"""Training from Python: what Hydra does for the command line, done for a script or a notebook."""

import copy
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
import lightning.pytorch as pl
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig

from flowlab import processes
from flowlab.commands.output import output_errors
from flowlab.commands.start import conf
from flowlab.commands.train import in_our_words, past_hydra
from flowlab.errors import ConfigError
from flowlab.experiment import check, train_checked
from flowlab.runs.directory import claim


def compose(*overrides: str) -> DictConfig:
    """The configuration of `python train.py OVERRIDE ...`, for `train`.

    Its node `hydra` says where the run will be. Raises ConfigError for an override that Hydra does
    not understand; the values are checked by `train`.
    """
    folder, others = conf(), GlobalHydra.instance().hydra  # which a caller may be within
    GlobalHydra.instance().clear()
    try:
        with (
            in_our_words([folder], overrides),
            hydra.initialize_config_dir(str(folder), job_name="train", version_base="1.3"),
        ):
            words = [*overrides, *processes.words()]
            return hydra.compose("train", words, return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = others


def train(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> dict[str, Any]:
    """Train as a configuration of `compose` says, in a folder of its own, as the command line does.

    Returns metrics.json's content. `callbacks` are the caller's own, beside those of the
    configuration. Raises a FlowlabError, before anything is written if it is the configuration's
    fault; and SystemExit, with the run saved, on SIGINT, SIGTERM and SIGHUP.
    """
    if "hydra" not in cfg:
        raise ConfigError("cfg: no hydra in it; expected what flowlab.compose gives")
    cfg = copy.deepcopy(cfg)
    check(cfg)
    if processes.is_first():
        claim(Path(cfg.hydra.run.dir), cfg.ckpt_path)

    def task(cfg: DictConfig) -> dict[str, Any]:
        with past_hydra(), _logged():
            return train_checked(cfg, callbacks)

    context = HydraContext(cast(Any, None), Callbacks())
    with in_our_words([conf()], ()), output_errors(lambda: cfg.hydra.run.dir):
        job = run_job(task, cfg, "hydra.run.dir", None, context, configure_logging=False)
    return cast(dict[str, Any], job.return_value)


@contextmanager
def _logged() -> Iterator[None]:
    """Keep what the run says in its train.log, and show it, unless the caller logs already."""
    log, job = logging.getLogger("flowlab"), HydraConfig.get()
    handlers: list[logging.Handler] = []
    if not log.hasHandlers():
        handlers.append(logging.StreamHandler(sys.stdout))
    if processes.is_first():
        path = Path(job.runtime.output_dir) / f"{job.job.name}.log"
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
        handlers[-1].setFormatter(
            logging.Formatter(job.job_logging["formatters"]["simple"]["format"])
        )
    level = log.level
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
