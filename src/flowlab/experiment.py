"""One run, from its configuration to its metrics: the one place where the parts meet."""

import logging
import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from flowlab import export, processes
from flowlab.callbacks import Checkpoint, Interrupt
from flowlab.callbacks.checkpoint import PatientIO
from flowlab.callbacks.picture import Picture
from flowlab.config import validate
from flowlab.data import Data
from flowlab.errors import ModelFileError, NonFiniteError
from flowlab.flows import Flow, build_flow
from flowlab.logger import RunLogger
from flowlab.parts import check_parts
from flowlab.rng import generator
from flowlab.runs.life import Metrics, Run, open_run
from flowlab.runs.resume import check_resume, identity, run_config
from flowlab.runs.settings import hparams
from flowlab.training.data import DataModule
from flowlab.training.module import Training
from flowlab.training.objectives import summarized

LIGHTNINGS_WARNINGS = (
    "`isinstance.treespec, LeafSpec",  # about torch, which changed
    "Be aware that when using `ckpt_path`, callbacks",  # which the log tells, with all that differs
    "You're resuming from a checkpoint that ended",  # `DataModule` goes on within an epoch
)
TITLES = {"test/nll": "test NLL", "test/kl": "KL to the truth"}


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
    _quieten_lightning()
    with open_run(cfg) as run, _logger(cfg, run) as logger:
        seeds = range(cfg.seed, cfg.seed + cfg.replicates)
        data = DataModule(_data(cfg, seeds), cfg.data.batch_size, seeds)
        flows = [_initial_flow(cfg, data.of(i), seed) for i, seed in enumerate(seeds)]
        module = Training(
            *(flows, instantiate(cfg.objective), data),
            *(instantiate(cfg.optimizer), instantiate(cfg.schedule)),
            clip=cfg.trainer.get("gradient_clip_val"),
            compile=cfg.compile,
            seed=cfg.seed,
            config=run_config(cfg),
            identity=identity(cfg),
        )
        trainer = _trainer(cfg, run, logger, callbacks)
        run.metrics["params"] = sum(p.numel() for p in flows[0].parameters())
        _fit(trainer, module, run)
        if logger is not None:
            _test_and_save(cfg, trainer, module, run, logger)
    return run.metrics


def _quieten_lightning() -> None:
    for package in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    for theirs in LIGHTNINGS_WARNINGS:
        warnings.filterwarnings("ignore", theirs)


def _logger(cfg: DictConfig, run: Run) -> Any:
    """The logger of the process that writes, as a context."""
    if not run.writes:
        return nullcontext()
    next_epoch = 0 if run.resume is None else run.epochs + 1
    return RunLogger(run.folder, OmegaConf.to_yaml(cfg), run.before, next_epoch)


def _data(cfg: DictConfig, seeds: Sequence[int]) -> list[Data]:
    """The data set of each seed, or the one of the data's own seed."""
    make = {key: value for key, value in cfg.data.items() if key not in ("batch_size", "seed")}
    return [instantiate(make, seed=seed) for seed in _data_seeds(cfg, seeds)]


def _data_seeds(cfg: DictConfig, seeds: Sequence[int]) -> Sequence[int]:
    return seeds if cfg.data.seed is None else [cfg.data.seed]


def _initial_flow(cfg: DictConfig, data: Data, seed: int) -> Flow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("initialisation", seed).initial_seed())
        return build_flow(shape=data.shape, context=data.num_context, **cfg.flow)


def _trainer(
    cfg: DictConfig, run: Run, logger: RunLogger | None, callers: Sequence[pl.Callback]
) -> pl.Trainer:
    """The trainer; in a process that does not write without callbacks but the checkpoints'."""
    chosen = {k: c for k, c in cfg.get("callbacks", {}).items() if run.writes or k == "checkpoint"}
    callbacks = [*(instantiate(c) for c in chosen.values() if c), *callers, Interrupt()]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        logger=logger or False,
        callbacks=callbacks,
        plugins=[
            PatientIO(before_writing=logger.flush if logger else lambda: None),
            processes.environment(),
        ],
        strategy="ddp" if processes.count(cfg) > 1 else "auto",
        default_root_dir=run.folder,
        gradient_clip_val=None,  # the module's own loop does it
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
    )
    return trainer


def _fit(trainer: pl.Trainer, module: Training, run: Run) -> None:
    """Train, and leave the module with the best weights."""
    ended = False
    try:
        with processes.together():
            trainer.fit(module, datamodule=module.data, ckpt_path=run.resume, weights_only=True)
        ended = True
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        if run.resume is None or module.has_started:
            raise
        raise ModelFileError(f"{run.resume}: not a checkpoint of this run ({error})") from error
    finally:
        if ended or module.has_started or run.resume is None:
            run.metrics["epochs"] = trainer.current_epoch
    run.metrics["seconds"] = module.seconds


def _test_and_save(
    cfg: DictConfig, trainer: pl.Trainer, module: Training, run: Run, logger: RunLogger
) -> None:
    """Test the best weights, and save, draw and log the best flow."""
    objective, data, epochs = module.objective, module.data, trainer.current_epoch
    module.to(trainer.strategy.root_device)
    best_epochs = [epochs] * module.replicates.num
    if isinstance(checkpoint := trainer.checkpoint_callback, Checkpoint):
        best_epochs = checkpoint.restore(module) or best_epochs
    flows = [module.replicates.flow(i) for i in range(module.replicates.num)]
    seeds = [*_data_seeds(cfg, data.order_seeds)] * len(flows)
    figures = [objective.test(flow, data.of(i), seeds[i]) for i, flow in enumerate(flows)]
    best = min(range(len(flows)), key=lambda i: figures[i][module.names[1]])
    run.metrics.update(best_epoch=best_epochs[best], **summarized(figures, best))
    for name, figure in figures[best].items():
        if not math.isfinite(figure):
            raise NonFiniteError(f"{name} is {figure}; try a lower optimizer.lr")
    flow = flows[best]
    export.save(flow, run.folder / "flow.safetensors")
    run.metrics["sha256"] = export.digest(flow.config, flow.state_dict())
    words = [
        f"{TITLES[name]} {figures[best][name]:.3f} nats" for name in TITLES if name in figures[best]
    ]
    logger.log_end()
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, Picture):
            title = f"best of {epochs} epochs: {', '.join(words)}"
            callback.show(logger, epochs, flow, data.of(best), title)
    result = {name: run.metrics[name] for name in TITLES if name in run.metrics}
    result |= {f"{name}_best": run.metrics[name] for name in module.names}
    logger.log_result(*hparams(cfg), result, epochs)
