"""One run, from its configuration to its metrics: the one place where the parts meet."""

import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from flowlab import export
from flowlab.callbacks.checkpoint import PatientIO
from flowlab.config import ConfigError, checkpoint_file, flatten, validate
from flowlab.data import ToyData
from flowlab.files import write_whole
from flowlab.flows import Flow, build_flow
from flowlab.logger import RunLogger
from flowlab.module import MaximumLikelihood
from flowlab.rng import generator

log = logging.getLogger(__name__)

Metrics = dict[str, Any]


def train(cfg: DictConfig) -> Metrics:
    """Train, test and export the flow of a configuration; returns what metrics.json holds.

    Raises ConfigError, before anything is written, for a configuration that makes no sense.
    """
    validate(cfg)
    torch.set_num_threads(cfg.num_threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", "`isinstance.treespec, LeafSpec", FutureWarning
    )  # Lightning's
    run_dir = Path(str(cfg.run_dir))

    data: ToyData = instantiate(cfg.data)
    flow = _initial_flow(cfg, data.target.dim)
    module = MaximumLikelihood(
        flow, data.target, instantiate(cfg.optimizer), instantiate(cfg.schedule)
    )
    callbacks = {k: instantiate(callback) for k, callback in cfg.get("callbacks", {}).items()}
    checkpoint, logger = callbacks.get("checkpoint"), RunLogger(run_dir)
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        logger=logger,
        callbacks=list(callbacks.values()),
        plugins=[PatientIO()],
        default_root_dir=run_dir,
        enable_checkpointing=checkpoint is not None,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=len(data.train_dataloader()),
        num_sanity_val_steps=0,
    )
    logger.log_config(OmegaConf.to_yaml(cfg))

    metrics: Metrics = {"status": "failed", "seed": cfg.seed}
    metrics["params"] = sum(p.numel() for p in flow.parameters())
    try:
        resume = checkpoint_file(cfg.ckpt_path) if cfg.ckpt_path is not None else None
        start = time.monotonic()
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        metrics["seconds"] = time.monotonic() - start
        if checkpoint:
            module.load_state_dict(torch.load(checkpoint.best, weights_only=True)["state_dict"])
        trainer.test(module, datamodule=data, verbose=False)
        metrics |= {k: float(v) for k, v in trainer.callback_metrics.items() if "test" in k}
        for split, points in {"train": data.train, "val": data.val}.items():
            with torch.no_grad():
                metrics[f"{split}/nll"] = float(-flow.log_prob(points).mean())
        metrics["best_epoch"] = checkpoint.best_epoch if checkpoint else trainer.current_epoch
        metrics["status"] = "completed"
        export.save(flow, run_dir / "flow.safetensors")
        result = {tag: metrics[tag] for tag in ("test/kl", "test/nll")}
        result |= {f"{tag}_best": metrics[tag] for tag in ("train/nll", "val/nll")}
        logger.log_result(_hparams(cfg), result, trainer.current_epoch)
    except SystemExit as stop:  # how Lightning leaves a fit on Ctrl-C
        metrics["status"] = "interrupted"
        run = os.path.relpath(run_dir)
        log.info(f"interrupted; to go on, add ckpt_path={run} to the same command")
        raise SystemExit(130) from stop
    finally:
        logger.close(wait=metrics["status"] == "completed")
        metrics["epochs"] = trainer.current_epoch
        write_whole(run_dir / "metrics.json", json.dumps(metrics, indent=2).encode())
    log.info(_report(metrics, run_dir))
    return metrics


def _initial_flow(cfg: DictConfig, dim: int) -> Flow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("initialisation", cfg.seed).initial_seed())
        try:
            return build_flow(dim=dim, **cfg.flow)
        except ValueError as error:
            raise ConfigError(f"flow: {error}") from error


def _hparams(cfg: DictConfig) -> dict[str, bool | float | str]:
    """What may differ between runs, each key once: interpolations and private keys left out."""
    values = flatten(OmegaConf.to_container(cfg, resolve=False))
    return {
        key: value
        for key, value in values
        if not key.startswith("callbacks.")
        and not key.endswith("_")
        and isinstance(value, bool | int | float | str)
        and not str(value).startswith("${")
    }


def _report(metrics: Metrics, run_dir: Path) -> str:
    run = Path(os.path.relpath(run_dir))
    rows = {
        "test NLL": f"{metrics['test/nll']:.4f} nats",
        "entropy": f"{metrics['test/entropy']:.4f} nats",
        "KL": f"{metrics['test/kl']:.4f} nats",
        "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}",
        "parameters": f"{metrics['params']}",
        "seconds": f"{metrics['seconds']:.1f}",
        "run": str(run),
    }
    table = "\n".join(f"{name:<12}{value}" for name, value in rows.items())
    return f"{table}\n\ntensorboard --logdir {run.parent} --samples_per_plugin images=1000"
