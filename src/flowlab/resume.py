"""Going on with a run: which checkpoint, whether it is whole, and whether it is the same run."""

import hashlib
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from flowlab.config import flatten
from flowlab.errors import ConfigError, Finished, ModelFileError
from flowlab.export import load
from flowlab.files import RUN_FILES, listed, run_of, strangers

# what makes another flow, other data, another order of them, or another state of the optimizer
DECISIVE = ("num_flows", "num_hidden", "seed", "replicates", "flow.", "data.", "optimizer.")
# but no state depends on these; `MaximumLikelihood.on_train_start` takes them over
TAKEN_OVER = tuple(f"optimizer.{key}" for key in ("lr", "betas", "eps", "weight_decay"))
FORMAT = 3
INCIDENTAL = ("ckpt_path", "run_dir", "hydra.")


def checkpoint_file(ckpt_path: Any) -> Path | None:
    """The file that `ckpt_path`, a run directory or a .ckpt, stands for.

    None for a run that was cut before its first checkpoint. Raises ConfigError, naming the runs in
    a folder that is not a run's, if there is no such run or file.
    """
    path = Path(str(ckpt_path))
    if not path.is_dir():
        if not path.is_file():
            raise ConfigError(
                f"ckpt_path={ckpt_path}: no such file; expected a run directory or a .ckpt file"
            )
        return path
    if (last := path / "checkpoints" / "last.ckpt").is_file():
        return last
    if _has_begun(path):
        return None
    patterns = [f"{depth}/{name}" for depth in ("*", "*/*") for name in (".hydra", "checkpoints")]
    found = {p.parent for pattern in patterns for p in path.glob(pattern)} - {path}
    runs = f"; runs in it: {listed(sorted(map(str, found)))}" if found else ""
    raise ConfigError(
        f"ckpt_path={ckpt_path}: not the directory of one run, which has checkpoints/last.ckpt"
        f"; expected one, or a .ckpt file{runs}"
    )


def _has_begun(folder: Path) -> bool:
    """Whether a folder is that of a run, and of nothing else, that has no checkpoint yet."""
    if any(folder.glob("checkpoints/*.ckpt")) or strangers(folder, RUN_FILES):
        return False
    return any((folder / name).exists() for name in (".hydra", "metrics.json"))


def to_bytes(checkpoint: dict[str, Any]) -> bytes:
    """A checkpoint as torch.save writes it, a zip file, and sealed."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return seal(buffer.getvalue())


def seal(archive: bytes) -> bytes:
    """A zip file without a comment, with the SHA-256 of all that comes before as its comment."""
    content = archive[:-2] + (64).to_bytes(2, "little")  # the comment's length
    return content + hashlib.sha256(content).hexdigest().encode()


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
        reason = " ".join(str(error).split())[:200]
        message = f"{path}: damaged, or no checkpoint of flowlab ({reason})"
        for other in ("last.ckpt", "best.ckpt"):
            if other != path.name and _is_whole(path.with_name(other)):
                message += f"; {path.with_name(other)} is whole"
        raise ModelFileError(message) from error


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    if hashlib.sha256(content[:-64]).hexdigest().encode() != content[-64:]:
        raise ValueError("its SHA-256 does not match")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    # torch unpacks a bomb, and leaves memory as it is for what passes as a folder
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.external_attr for entry in entries):
        raise ValueError("compressed entries, or entries with attributes")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("two entries of one name")
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    checkpoint: dict[str, Any] = loaded
    state, epochs = checkpoint["flowlab"], done_epochs(checkpoint)
    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']!r}; this version reads {FORMAT}")
    parts = (state["config"], checkpoint["state_dict"], checkpoint["callbacks"])
    if not all(isinstance(part, dict) for part in parts) or epochs < 0 or not state["identity"]:
        raise ValueError("its contents are not a checkpoint's")
    _check_finite(checkpoint)
    return checkpoint


def _check_finite(checkpoint: dict[str, Any]) -> None:
    """Look at all that the training goes on with: weights, moments, rates, the best weights."""
    values = {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "callbacks")}
    # a foreign callback's state, and the lowest NLL before the first epoch, may be infinite
    values["callbacks"] = {k: v.get("best_weights") for k, v in values["callbacks"].items()}
    for path, leaf in tree_flatten_with_path(values)[0]:
        finite = leaf.isfinite().all() if isinstance(leaf, Tensor) else True
        if not finite or (isinstance(leaf, float) and not math.isfinite(leaf)):
            raise ValueError(f"not finite: {keystr(path)}")


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

    Raises Finished if it has nothing left to do, ConfigError if its flow, its data or its optimizer
    differ, and what `checkpoint_file` and `read_checkpoint` raise.
    """
    path = checkpoint_file(cfg.ckpt_path)
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
    asked = cfg.trainer.max_epochs
    others = differences(cfg, checkpoint, decisive=False, but=("trainer.max_epochs", "callbacks."))
    if max(finished, done) >= asked and others:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: trained to its end with other settings: {others}; "
            "for more epochs with these raise trainer.max_epochs"
        )
    if finished >= asked:
        raise Finished(
            f"{os.path.relpath(run_dir)}: finished, {finished} epochs; nothing to do. "
            "For more of them raise trainer.max_epochs"
        )
    if done > asked:
        raise ConfigError(f"trainer.max_epochs={asked}: {path} already has more epochs")


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
