"""Lightning's Trainer, as a run uses it."""

import logging
import warnings
from collections.abc import Sequence
from typing import cast

import lightning.pytorch as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from flowlab import processes
from flowlab.callbacks import Checkpoint, Interrupt
from flowlab.callbacks.checkpoint import PatientIO
from flowlab.errors import ModelFileError
from flowlab.logger import RunLogger
from flowlab.runs.life import Run
from flowlab.training.module import Training

LIGHTNINGS_WARNINGS = (
    "`isinstance.treespec, LeafSpec",  # about torch, which changed
    "Be aware that when using `ckpt_path`, callbacks",  # which the log tells, with all that differs
    "You're resuming from a checkpoint that ended",  # `DataModule` goes on within an epoch
)


def trainer_of(
    cfg: DictConfig, run: Run, logger: RunLogger | None, callers: Sequence[pl.Callback]
) -> pl.Trainer:
    """The trainer; in a process that does not write without callbacks but the checkpoints'."""
    for package in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    for theirs in LIGHTNINGS_WARNINGS:
        warnings.filterwarnings("ignore", theirs)
    chosen = {k: c for k, c in cfg.get("callbacks", {}).items() if run.writes or k == "checkpoint"}
    callbacks = [*(instantiate(c) for c in chosen.values() if c), *callers, Interrupt()]
    trainer: pl.Trainer = instantiate(
        {key: value for key, value in cfg.trainer.items() if key != "patience"},  # the module's
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


def fit(trainer: pl.Trainer, module: Training, run: Run) -> list[int]:
    """Train, and leave the flows with their best weights; returns the epochs that they are of.

    Raises ModelFileError for a checkpoint that is not of such a run.
    """
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
        if ended or module.has_started:
            run.metrics["epochs"] = trainer.current_epoch
    run.metrics.update(seconds=module.seconds, steps=module.step)
    if not module.is_patient and trainer.current_epoch < cast(int, trainer.max_epochs):
        run.metrics["stopped_early"] = True
    module.to(trainer.strategy.root_device).eval()  # Lightning takes it from both
    best_epochs = None
    if isinstance(trainer.checkpoint_callback, Checkpoint):
        best_epochs = trainer.checkpoint_callback.restore(module)
    return best_epochs or [trainer.current_epoch] * module.replicates.num
