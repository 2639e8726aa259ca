"""Going on with a run: which checkpoint, whether it is whole, and whether it is the same run."""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils._pytree import tree_leaves

from flowlab.config import flatten
from flowlab.errors import ConfigError, Finished, ModelFileError
from flowlab.export import load

# what makes another flow, other data or another order of them
DECISIVE = ("num_flows", "num_hidden", "seed", "replicates", "flow.", "data.", "optimizer._target_")
FORMAT = 2
INCIDENTAL = ("ckpt_path", "run_dir", "hydra.")


def checkpoint_file(ckpt_path: Any) -> Path | None:
    """The file that `ckpt_path`, a run directory or a .ckpt, stands for.

    None for a run that was cut before its first checkpoint. Raises ConfigError if there is no such
    run or file.
    """
    path = Path(str(ckpt_path))
    if path.is_dir():
        last = path / "checkpoints" / "last.ckpt"
        if not last.exists() and (any(path.glob("events.*")) or (path / ".hydra").exists()):
            return None
        path = last
    if not path.is_file():
        raise ConfigError(
            f"ckpt_path={ckpt_path}: no such file; expected a run directory or a .ckpt file"
        )
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, plain containers and tensors only, on the CPU.

    Raises ModelFileError, naming another checkpoint that is whole, if this one is damaged, foreign
    or made to run code, and ConfigError where the environment switches torch's protection off.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        raise ConfigError(
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: it lets checkpoints run code; unset it"
        )
    try:
        return _read(path)
    except Exception as error:  # whatever the damage happens to trip over
        reason = " ".join(str(error).split())[:80]
        message = f"{path}: damaged, or no checkpoint of flowlab ({reason})"
        for other in ("last.ckpt", "best.ckpt"):
            if other != path.name and _is_whole(path.with_name(other)):
                message += f"; {path.with_name(other)} is whole"
        raise ModelFileError(message) from error


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        if not stored or archive.testzip() is not None:
            raise ValueError("a checksum does not match")
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state, epochs = checkpoint["flowlab"], done_epochs(checkpoint)
    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']!r}; this version reads {FORMAT}")
    parts = (state["config"], checkpoint["state_dict"], checkpoint["callbacks"])
    if not all(isinstance(part, dict) for part in parts) or epochs < 0 or not state["identity"]:
        raise ValueError("its contents are not a checkpoint's")
    leaves = tree_leaves((checkpoint["state_dict"], checkpoint["optimizer_states"]))
    if not all(x.isfinite().all() for x in leaves if isinstance(x, Tensor)):
        raise ValueError("it holds numbers that are not finite")
    return checkpoint


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except Exception:
        return False
    return True


def done_epochs(checkpoint: dict[str, Any]) -> int:
    """How many epochs a checkpoint's training had ended."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


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
    """Check that the run at `ckpt_path` can go on with this configuration.

    Raises Finished if it has nothing left to do, ConfigError if its flow or data differ, and what
    `checkpoint_file` and `read_checkpoint` raise.
    """
    path = checkpoint_file(cfg.ckpt_path)
    if path is None:
        return
    checkpoint = read_checkpoint(path)
    decisive = differences(cfg, checkpoint, decisive=True)
    if decisive or checkpoint["flowlab"]["identity"] != identity(cfg):
        decisive = decisive or "a key that they take their values from"
        raise ConfigError(f"ckpt_path={cfg.ckpt_path}: not the same flow and data: {decisive}")
    epochs, asked = finished_epochs(path), cfg.trainer.max_epochs
    if epochs >= asked:
        others = differences(cfg, checkpoint, decisive=False, but=("trainer.", "callbacks."))
        if others:
            raise ConfigError(
                f"ckpt_path={cfg.ckpt_path}: finished with other settings: {others}; "
                "for more epochs with these raise trainer.max_epochs"
            )
        raise Finished(
            f"{path.parent.parent}: finished, {epochs} epochs; nothing to do. "
            "For more of them raise trainer.max_epochs"
        )
    if done_epochs(checkpoint) > asked:
        raise ConfigError(f"trainer.max_epochs={asked}: {path} already has more epochs")


def finished_epochs(path: Path) -> int:
    """How many epochs a checkpoint's run was completed with; 0 if it was not, or is damaged."""
    run_dir = path.parent.parent
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
        and key.startswith(DECISIVE) == decisive
        and not key.startswith(but)
    )
