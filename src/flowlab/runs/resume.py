"""Going on with a run: whether it is the same run, and what differs."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flowlab.config import INCIDENTAL, flatten
from flowlab.errors import ConfigError, DataError, Finished
from flowlab.export import load
from flowlab.files import LAST, run_at
from flowlab.runs.checkpoints import checkpoint_file, done_epochs, read_checkpoint
from flowlab.runs.directory import run_of, shown

log = logging.getLogger(__name__)

# what makes another flow, other data, another order of them, or another state of the optimizer
DECISIVE = ("num_flows", "num_hidden", "seed", "replicates", "flow.", "data.", "optimizer.")
# but no state depends on these; `Training.on_train_start` takes them over
TAKEN_OVER = tuple(f"optimizer.{key}" for key in ("lr", "betas", "eps", "weight_decay"))


def identity(cfg: DictConfig) -> str:
    """A digest of the flow and the data, wherever their values are taken from."""
    values = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("flow", "data")}
    return hashlib.sha256(json.dumps([cfg.seed, values], sort_keys=True).encode()).hexdigest()


def run_config(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as checkpoints hold it: plain, and with its interpolations unresolved.

    What a configuration takes from the environment, a password perhaps, thus stays out of them.
    """
    values = dict(flatten(OmegaConf.to_container(cfg, resolve=False)))
    return {key: value for key, value in values.items() if not key.startswith(INCIDENTAL)}


def check_resume(cfg: DictConfig) -> None:
    """Check that the run at `ckpt_path` can go on with this configuration; names the latest there.

    Raises Finished if it has nothing left to do, ConfigError if its flow, its data or its optimizer
    differ, and what `checkpoint_file` and `read_checkpoint` raise.
    """
    if cfg.ckpt_path == "latest":  # once and for all, before this run becomes it
        cfg.ckpt_path = str(run_at("latest", LAST))
    path = None if cfg.ckpt_path is None else checkpoint_file(cfg.ckpt_path)
    if path is None:
        return
    checkpoint = read_checkpoint(path)
    decisive = differences(cfg, checkpoint, decisive=True)
    if decisive or checkpoint["flowlab"]["identity"] != identity(cfg):
        decisive = decisive or "a key that they take their values from"
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: not the same flow, data and optimizer: {decisive}"
        )
    run_dir = run_of(path)
    finished, done = finished_epochs(run_dir), done_epochs(checkpoint)
    asked, longer = cfg.trainer.max_epochs, ("trainer.max_epochs", "trainer.patience")
    others = differences(cfg, checkpoint, decisive=False, but=(*longer, "callbacks.", "pictures."))
    patience, waited = cfg.trainer.get("patience"), checkpoint["flowlab"].get("waited", 0)
    stopped = patience is not None and waited >= patience and done < asked
    end, key = (done, longer[1]) if stopped else (asked, longer[0])
    if max(finished, done) >= end and others:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: trained to its end with other settings: {others}; "
            f"for more epochs with these raise {key}"
        )
    if finished >= end:
        raise Finished(
            f"{shown(run_dir)}: finished, {finished} epochs; nothing to do. "
            f"For more of them raise {key}"
        )
    if done > asked:
        raise ConfigError(f"trainer.max_epochs={asked}: {path} already has more epochs")


def check_facts(resume: Path | None, facts: Mapping[str, Any]) -> None:
    """Check that the data of a run are those that its checkpoint was trained on.

    Raises DataError if what they say of themselves, the digest of a file perhaps, is another.
    """
    there = facts if resume is None else read_checkpoint(resume)["flowlab"].get("facts", {})
    changed = [key for key in sorted({*there, *facts}) if there.get(key) != facts.get(key)]
    if changed:
        listed = ", ".join(f"{k}={there.get(k)} there, {facts.get(k)} here" for k in changed)
        raise DataError(
            f"{resume}: the data have changed since: {listed}; restore them, or start anew without "
            "ckpt_path"
        )


def say_where_it_goes_on(cfg: DictConfig, resume: Path | None) -> int:
    """Log what differs from the run of a checkpoint; returns the epochs that it has done."""
    if resume is None:
        log.info(f"ckpt_path={cfg.ckpt_path}: cut before its first checkpoint; starting anew")
        return 0
    checkpoint = read_checkpoint(resume)
    epochs = done_epochs(checkpoint)
    others = differences(cfg, checkpoint, decisive=False)
    log.info(f"going on from {resume} after {epochs} epochs" + (others and f"; {others}"))
    return epochs


def finished_epochs(run_dir: Path) -> int:
    """How many epochs a run was completed with; 0 if it was not, or what it left is damaged."""
    try:
        load(run_dir)
        metrics = json.loads((run_dir / "metrics.json").read_bytes())
        return int(metrics["epochs"]) if metrics["status"] == "completed" else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def differences(
    cfg: DictConfig, checkpoint: dict[str, Any], decisive: bool, but: tuple[str, ...] = ()
) -> str:
    """What the checkpoint's run had otherwise: of the decisive keys or the others, `but` some."""
    here, there = run_config(cfg), checkpoint["flowlab"]["config"]
    return ", ".join(
        f"{key}={there.get(key)} there, {here.get(key)} here"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
        and _is_decisive(key, here, there) == decisive
        and not key.startswith(but)
    )


def _is_decisive(key: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether a run with another value of a key would be another run, or a strange mixture."""
    if key.startswith("callbacks."):  # foreign ones may take their options from the checkpoint
        callback = ".".join(key.split(".")[:2])
        ours = str(here.get(f"{callback}._target_")).startswith("flowlab.")
        return key in here and key in there and not ours
    return key.startswith(DECISIVE) and key not in TAKEN_OVER
