"""One run, from its configuration to its metrics: the one place where the parts meet."""

import json
import logging
import math
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from flowlab import export, processes
from flowlab.callbacks import Interrupt
from flowlab.callbacks.checkpoint import Checkpoint, PatientIO
from flowlab.config import validate
from flowlab.data import ToyData
from flowlab.errors import (
    FlowlabError,
    ModelFileError,
    NonFiniteError,
    OutputError,
)
from flowlab.files import claim, holds_run, release, run_of, write_whole
from flowlab.flows import Flow, build_flow
from flowlab.logger import RunLogger
from flowlab.module import MaximumLikelihood
from flowlab.parts import check_parts
from flowlab.provenance import provenance
from flowlab.replicates import ReplicatedLikelihood, Replicates
from flowlab.resume import (
    checkpoint_file,
    differences,
    done_epochs,
    identity,
    read_checkpoint,
    run_config,
)
from flowlab.rng import generator
from flowlab.settings import follows, settings_of, short, title, trial_id

log = logging.getLogger(__name__)

Metrics = dict[str, Any]

LIGHTNINGS_WARNINGS = (
    "`isinstance.treespec, LeafSpec",  # about torch, which changed
    "Be aware that when using `ckpt_path`, callbacks",  # which the log tells, with all that differs
    "You're resuming from a checkpoint that ended",  # `ToyData` goes on within an epoch
)


def train(cfg: DictConfig) -> Metrics:
    """Train, test and export the flow of a configuration; returns what metrics.json holds.

    Raises a FlowlabError, before anything is written if it is the configuration's fault; and
    SystemExit, with the run saved, on SIGINT and SIGTERM. A script that calls it needs the usual
    `if __name__ == "__main__":`, for the process that draws imports the script.
    """
    validate(cfg)
    check_parts(cfg)
    processes.check_started(cfg)
    if not processes.is_first():
        return _take_part(cfg)
    run_dir = Path(str(cfg.run_dir))
    claim(run_dir, cfg.ckpt_path)
    torch.set_num_threads(cfg.num_threads)
    for package in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    for theirs in LIGHTNINGS_WARNINGS:
        warnings.filterwarnings("ignore", theirs)

    metrics: Metrics = {"status": "failed", "seed": cfg.seed, "environment": provenance()}
    try:
        _fit_and_test(cfg, run_dir, metrics)
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
    log.info(_report(metrics, run_dir))
    return metrics


def _is_cell() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _fit_and_test(cfg: DictConfig, run_dir: Path, metrics: Metrics) -> None:
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
    trainer = _trainer(cfg, run_dir, callbacks.values(), logger)
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
        logger.log_result(*_hparams(cfg), result, trainer.current_epoch)
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
    torch.set_num_threads(cfg.num_threads)
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


def _hparams(cfg: DictConfig) -> tuple[str, dict[str, bool | float | str]]:
    """The name of a run's settings, as in the table of a report, and those that follow no other."""
    found = settings_of(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False)))
    return trial_id(found), {
        title(key): value if isinstance(value, int | float) else short(key, str(value))
        for key, value in found.items()
        if not follows(value)
    }


def _write(metrics: Metrics, run_dir: Path) -> None:
    write_whole(run_dir / "metrics.json", json.dumps(metrics, indent=2).encode())


def _report(metrics: Metrics, run_dir: Path) -> str:
    run = Path(os.path.relpath(run_dir))
    kl_error, note = metrics["test/kl_error"], ""
    if "replicates" in metrics:
        kl_error = metrics["test/kl_stderr"]
        note = f", mean and standard error of {len(metrics['replicates']['test/kl'])} replicates"
    rows = {
        "test NLL": _with_error(metrics["test/nll"], metrics["test/nll_stderr"]) + note,
        "entropy": f"{metrics['test/entropy']:.4f} nats",
        "KL": _with_error(metrics["test/kl"], kl_error) + note,
    }
    if "replicates" in metrics:
        rows["best KL"] = f"{metrics['test/kl_best']:.4f} nats, by val/nll"
    rows |= {
        "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}",
        "parameters": f"{metrics['params']}",
        "seconds": f"{metrics['seconds']:.1f}",
        "run": str(run),
    }
    table = "\n".join(f"{name:<14}{value}" for name, value in rows.items())
    return f"{table}\n\ntensorboard --logdir {run.parent} --samples_per_plugin images=1000"


def _with_error(value: float, error: float) -> str:
    """A figure and its error, which is rounded up: nothing is exact to the last digit shown."""
    return f"{value:.4f} ± {math.ceil(error * 1e4) / 1e4:.4f} nats"
