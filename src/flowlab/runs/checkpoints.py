"""Checkpoints on the disk: which file, how it is sealed, and whether it is whole."""

import hashlib
import io
import math
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from flowlab.errors import ConfigError, ModelFileError
from flowlab.runs.directory import RUN_FILES, listed, strangers

FORMAT = 4


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

    The last one that was read is kept until `forget`, for all who ask in a resume. Raises
    ModelFileError, naming another checkpoint that is whole, if this one is damaged, foreign
    or made to run code, and ConfigError where the environment switches torch's protection off.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        raise ConfigError(
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: it lets checkpoints run code; unset it"
        )
    try:
        stat = path.stat()
        return _read_once(path, stat.st_mtime_ns, stat.st_size)
    except Exception as error:  # whatever the damage happens to trip over
        reason = " ".join(str(error).split())[:200]
        message = f"{path}: damaged, or no checkpoint of flowlab ({reason})"
        for other in ("last.ckpt", "best.ckpt"):
            if other != path.name and _is_whole(path.with_name(other)):
                message += f"; {path.with_name(other)} is whole"
        raise ModelFileError(message) from error


def forget() -> None:
    """Keep no checkpoint any more: the training has it."""
    _read_once.cache_clear()


@lru_cache(maxsize=1)
def _read_once(path: Path, modified: int, size: int) -> dict[str, Any]:
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    if hashlib.sha256(content[:-64]).hexdigest().encode() != content[-64:]:
        raise ValueError("its SHA-256 does not match, or it is of version 0.1, which had none")
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
