"""One run, from its configuration to its metrics: the one place where the parts meet."""

import logging
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from flowlab import export, processes
from flowlab.callbacks import Interrupt
from flowlab.callbacks.checkpoint import Checkpoint, PatientIO
from flowlab.config import validate
from flowlab.errors import (
    ModelFileError,
    NonFiniteError,
)
from flowlab.flows import Flow, build_flow
from flowlab.logger import RunLogger
from flowlab.parts import check_parts
from flowlab.rng import generator
from flowlab.runs.checkpoints import checkpoint_file, done_epochs, read_checkpoint
from flowlab.runs.directory import holds_run, run_of
from flowlab.runs.life import Metrics, open_run
from flowlab.runs.resume import check_resume, differences, identity, run_config
from flowlab.runs.settings import hparams
from flowlab.training.data import ToyData
from flowlab.training.module import MaximumLikelihood
from flowlab.training.replicates import ReplicatedLikelihood, Replicates

log = logging.getLogger(__name__)

LIGHTNINGS_WARNINGS = (
    "`isinstance.treespec, LeafSpec",  # about torch, which changed
    "Be aware that when using `ckpt_path`, callbacks",  # which the log tells, with all that differs
    "You're resuming from a checkpoint that ended",  # `ToyData` goes on within an epoch
)


def train(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Metrics:
    """Check a configuration, and train, test and export its flow; returns metrics.json's content.

    `callbacks` are the caller's own, beside those of the configuration. Raises a FlowlabError,
    before anything is written if it is the configuration's fault; and SystemExit, with the run
    saved, on SIGINT and SIGTERM. A script that calls it needs the usual `if __name__ ==
    "__main__":`, for the process that draws imports the script.
    """
    validate(cfg)
    check_resume(cfg)
    check_parts(cfg)
    return run(cfg, callbacks)


def run(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Metrics:
    """`train` for a configuration that has been checked, as the command line's has."""
    processes.check_started(cfg)
    torch.set_num_threads(cfg.num_threads)
    for package in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    for theirs in LIGHTNINGS_WARNINGS:
        warnings.filterwarnings("ignore", theirs)
    if not processes.is_first():
        return _take_part(cfg)
    with open_run(cfg) as (run_dir, metrics):
        _fit_and_test(cfg, run_dir, metrics, callbacks)
    return metrics


def _fit_and_test(
    cfg: DictConfig, run_dir: Path, metrics: Metrics, callers: Sequence[pl.Callback]
) -> None:
    """The run itself; puts its figures into `metrics` as they come."""
    resume = None if cfg.ckpt_path is None else checkpoint_file(cfg.ckpt_path)
    epochs = 0 if cfg.ckpt_path is None else _say_where_it_goes_on(cfg, resume)
    before = run_dir if resume is None else run_of(resume)
    if before != run_dir.resolve() and holds_run(before):
        metrics["resumed_from"] = os.path.relpath(before, run_dir)
    data, module = _build(cfg)
    metrics["params"] = sum(p.numel() for p in module.shown().parameters())
    callbacks = {k: instantiate(c) for k, c in cfg.get("callbacks", {}).items() if c}
    drawn = min(epochs, cfg.trainer.max_epochs - 1)  # those of the end are drawn anew
    logger = RunLogger(run_dir, resume and run_of(resume), epochs, drawn)
    trainer = _trainer(cfg, run_dir, [*callbacks.values(), *callers], logger)
    logger.log_config(OmegaConf.to_yaml(cfg))
    try:
        _fit(trainer, module, data, resume)
        module.has_started = True  # also where no epoch was left
        metrics["seconds"] = module.seconds
        metrics["best_epoch"] = _test_the_best(trainer, module, data)
        metrics |= module.results()
        for name in ("test/nll", "test/kl"):
            if not math.isfinite(metrics[name]):
                raise NonFiniteError(f"{name} is {metrics[name]}; try a lower flow.bound")
        flow = module.shown()
        export.save(flow, run_dir / "flow.safetensors")
        metrics["sha256"] = export.digest(flow.config, flow.state_dict())
        result = {tag: metrics[tag] for tag in ("test/kl", "test/nll")}
        for tag in ("train/nll", "val/nll"):
            result[f"{tag}_best"] = metrics.get(f"{tag}_best", metrics[tag])
        logger.log_result(*hparams(cfg), result, trainer.current_epoch)
        logger.close()
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            logger.close()
        raise
    finally:
        if module.has_started or resume is None:
            metrics["epochs"] = trainer.current_epoch


def _take_part(cfg: DictConfig) -> Metrics:
    """Be one of the processes of a run, but not the one that writes."""
    resume = None if cfg.ckpt_path is None else checkpoint_file(cfg.ckpt_path)
    data, module = _build(cfg)
    checkpoint = cfg.get("callbacks", {}).get("checkpoint")
    callbacks = [instantiate(checkpoint)] if checkpoint else []
    trainer = _trainer(cfg, Path(cfg.run_dir), callbacks, None)
    _fit(trainer, module, data, resume)
    _test_the_best(trainer, module, data)
    return {}


def _build(cfg: DictConfig) -> tuple[ToyData, MaximumLikelihood]:
    data: ToyData = instantiate(cfg.data)
    flows = [
        _initial_flow(cfg, data.target.dim, seed)
        for seed in range(cfg.seed, cfg.seed + cfg.replicates)
    ]
    kind: Any = MaximumLikelihood if cfg.replicates == 1 else ReplicatedLikelihood
    module: MaximumLikelihood = kind(
        flows[0] if cfg.replicates == 1 else Replicates(flows),
        data.target,
        instantiate(cfg.optimizer),
        instantiate(cfg.schedule),
        cfg.trainer.get("gradient_clip_val"),
        data.batch_size,
        cfg.compile,
        cfg.seed,
        run_config(cfg),
        identity(cfg),
    )
    return data, module


def _trainer(
    cfg: DictConfig, run_dir: Path, callbacks: Iterable[pl.Callback], logger: RunLogger | None
) -> pl.Trainer:
    callbacks = [*callbacks, Interrupt()]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        logger=logger or False,
        callbacks=callbacks,
        plugins=[
            PatientIO(before_writing=logger.flush if logger else lambda: None),
            processes.environment(),
        ],
        strategy="ddp" if processes.count(cfg) > 1 else "auto",
        default_root_dir=run_dir,
        gradient_clip_val=None,  # the module's own loop does it
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
    )
    return trainer


def _test_the_best(trainer: pl.Trainer, module: MaximumLikelihood, data: ToyData) -> int:
    """Give the module its best weights, and test them; returns the epoch that they are of."""
    best_epoch, checkpoint = torch.tensor(trainer.current_epoch), trainer.checkpoint_callback
    if isinstance(checkpoint, Checkpoint) and checkpoint.best_weights is not None:
        module.load_state_dict(checkpoint.best_weights)
        best_epoch = checkpoint.best_epoch
    trainer.test(module, datamodule=data, verbose=False)
    return int(module.value(best_epoch))


def _fit(
    trainer: pl.Trainer, module: MaximumLikelihood, data: ToyData, resume: Path | None
) -> None:
    try:
        with processes.together():
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        if resume is None or module.has_started:
            raise
        raise ModelFileError(f"{resume}: not a checkpoint of this run ({error})") from error


def _say_where_it_goes_on(cfg: DictConfig, resume: Path | None) -> int:
    """Log what differs from the run of a checkpoint; returns the epochs that it has done."""
    if resume is None:
        log.info(f"ckpt_path={cfg.ckpt_path}: cut before its first checkpoint; starting anew")
        return 0
    checkpoint = read_checkpoint(resume)
    epochs = done_epochs(checkpoint)
    others = differences(cfg, checkpoint, decisive=False)
    log.info(f"going on from {resume} after {epochs} epochs" + (others and f"; {others}"))
    return epochs


def _initial_flow(cfg: DictConfig, dim: int, seed: int) -> Flow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("initialisation", seed).initial_seed())
        return build_flow(shape=dim, **cfg.flow)
