"""One run, from its configuration to its metrics: the one place where the parts meet."""

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from flowlab import export, processes
from flowlab.callbacks.picture import Picture
from flowlab.config import validate
from flowlab.data import Data
from flowlab.errors import ConfigError, DataError, FlowlabError
from flowlab.flows import Autoencoder, Flow
from flowlab.logger import RunLogger
from flowlab.parts import check_parts, import_extensions
from flowlab.rng import drawing
from flowlab.runs import likelihoods
from flowlab.runs.life import Metrics, Run, open_run
from flowlab.runs.resume import check_facts, check_resume, identity, run_config
from flowlab.runs.settings import hparams
from flowlab.trainer import fit, trainer_of
from flowlab.training.data import DataModule
from flowlab.training.description import describe
from flowlab.training.module import Training
from flowlab.training.objectives import Objective
from flowlab.training.objectives.objective import PER_POINT, summarized

log = logging.getLogger(__name__)

TITLES = {
    "test/nll": "test NLL",
    "test/elbo": "ELBO",
    "test/kl": "KL",
}  # of figures to be shown


def train(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Metrics:
    """Check a configuration, and train, test and export its flow; returns metrics.json's content.

    `callbacks` are the caller's own, beside those of the configuration. Raises a FlowlabError,
    before anything is written if it is the configuration's fault; and SystemExit, with the run
    saved, on SIGINT, SIGTERM and SIGHUP.
    """
    check(cfg)
    return train_checked(cfg, callbacks)


def check(cfg: DictConfig) -> None:
    """Check a configuration; raises ConfigError, or what `check_resume` does."""
    validate(cfg)
    import_extensions(cfg.get("extensions") or ())
    check_resume(cfg)
    check_parts(cfg)
    processes.check_started(cfg)


def train_checked(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Metrics:
    """`train` for a configuration that has been checked, as the command line's has."""
    take_threads(cfg.num_threads)
    with open_run(cfg) as run, _logger(cfg, run) as logger:
        seeds = range(cfg.seed, cfg.seed + cfg.replicates)
        data = DataModule(_data(cfg, seeds), cfg.data.batch_size, seeds)
        check_facts(run.resume, data.facts)
        run.metrics.update(data.facts)
        objective: Objective[Any] = instantiate(cfg.objective)
        flows = [
            _initial_flow(cfg, objective, data.dequantized(i), seed) for i, seed in enumerate(seeds)
        ]
        run.metrics["params"] = sum(p.numel() for p in flows[0].parameters())
        module = Training(
            *(flows, objective, data, instantiate(cfg.optimizer), instantiate(cfg.schedule)),
            clip=cfg.trainer.get("gradient_clip_val"),
            patience=cfg.trainer.get("patience"),
            compile=cfg.compile,
            seed=cfg.seed,
            config=run_config(cfg),
            identity=identity(cfg),
        )
        trainer = trainer_of(cfg, run, logger, callbacks)
        best_epochs = fit(trainer, module, run)
        if logger is not None:
            flows = [module.replicates.flow(i) for i in range(len(seeds))]
            figures = [
                objective.test(flow, data.dequantized(i), seeds[i]) for i, flow in enumerate(flows)
            ]
            log_probs = [found.pop(PER_POINT, None) for found in figures]
            best = min(range(len(seeds)), key=lambda i: figures[i][module.names[1]])
            run.metrics.update(best_epoch=best_epochs[best], **summarized(figures, best))
            _save(flows[best], data.of(best), log_probs[best], run)
            _show_the_end(trainer, flows[best], data.of(best), figures[best])
            result = {name: run.metrics[name] for name in TITLES if name in run.metrics}
            result |= {f"{name}_best": run.metrics[name] for name in module.names}
            logger.log_result(*hparams(cfg), result, trainer.current_epoch)
    return run.metrics


def take_threads(num: int) -> None:
    """Compute with so many threads, and warn of more than there are cores."""
    torch.set_num_threads(num)
    cores = os.cpu_count() or num
    if num > cores and processes.is_first():
        log.warning(f"warning: num_threads={num}: slow, for this machine has {cores} cores")


def _logger(cfg: DictConfig, run: Run) -> Any:
    """The logger, as a context; none in a process that does not write."""
    if not run.writes:
        return nullcontext()
    next_epoch = 0 if run.resume is None else run.epochs + 1
    return RunLogger(run.folder, OmegaConf.to_yaml(cfg), run.before, next_epoch)


def _data(cfg: DictConfig, seeds: Sequence[int]) -> list[Data]:
    """The data set of each seed, or the one of the data's own seed.

    Raises DataError for a function of the user's own that fails, or gives something else.
    """
    make = {key: value for key, value in cfg.data.items() if key not in ("batch_size", "seed")}
    own = seeds if cfg.data.seed is None else [cfg.data.seed]
    # called here and not by Hydra, which would wrap its errors in one of its own
    named = f"data._target_={cfg.data._target_}"
    try:
        sets = [instantiate(make, seed=seed, _partial_=True)() for seed in own]
    except Exception as error:
        if isinstance(error, FlowlabError) or str(cfg.data._target_).startswith("flowlab."):
            raise
        raise DataError(f"{named}: {type(error).__name__}: {error}") from error
    for data in sets:
        _check_data(named, data)
    return sets


def _check_data(named: str, data: Any) -> None:
    if not isinstance(data, Data):
        raise DataError(f"{named}: returned {type(data).__name__}; expected flowlab.data.Data")
    splits = data.train, data.val, data.test
    shapes = [tuple(points.x.shape) for points in splits]
    if not (data.shape and all(shape[0] and shape[1:] == data.shape for shape in shapes)):
        hint = "expected some points in each split, of one shape, as (N, D)"
        raise DataError(f"{named}: splits of the shapes {shapes}; {hint}")
    if any(c is not None and len(c) != len(x) for x, c in splits):
        raise DataError(f"{named}: expected a context for each point of a split")
    if data.names and len(data.shape) == 1 and len(data.names) != data.shape[0]:
        raise DataError(f"{named}: {len(data.names)} names of {data.shape[0]} columns")


def _initial_flow(cfg: DictConfig, objective: Objective[Any], data: Data, seed: int) -> Any:
    with drawing("initialisation", seed):
        try:
            flow = objective.build(cfg.flow, data.shape, data.num_context, data.support)
        except ValueError as error:  # of what is known of points alone, as their shape
            hint = "choose another flow or other options"
            raise ConfigError(f"flow={cfg.flow.name}: {error}; {hint}") from error
    if not objective.generates:
        flow.fit(*data.train)
    return flow


def _save(flow: Flow | Autoencoder, data: Data, log_prob: Tensor | None, run: Run) -> None:
    """Write the best flow, and its log-densities of the test points where it has some."""
    if log_prob is not None:
        run.metrics.update(likelihoods.keep(run.folder, log_prob, data.test))
    schema = describe(flow, data) if isinstance(flow, Flow) else None
    export.save(flow, run.folder / "flow.safetensors", schema)
    run.metrics["sha256"] = export.digest(flow.config, flow.state_dict())


def _show_the_end(trainer: pl.Trainer, flow: Any, data: Data, figures: dict[str, float]) -> None:
    """Draw the best flow, as a part of the result."""
    logger, epochs = cast(RunLogger, trainer.logger), trainer.current_epoch
    words = [f"{TITLES[name]} {figures[name]:.3f}" for name in TITLES if name in figures]
    logger.log_end()
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, Picture):
            title = f"best of {epochs} epochs: {', '.join(words)} nats"
            callback.show(logger, epochs, flow, data, title)
