"""Checkpoints on the disk: which file, how it is sealed, and whether it is whole."""

import hashlib
import io
import math
import os
import pickletools
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from flowlab.errors import ConfigError, ModelFileError, one_line
from flowlab.files import LAST
from flowlab.runs.directory import RUN_FILES, listed, strangers

FORMAT = 4
MOST = 8  # times the size of its file is what a checkpoint may come to


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
    if (last := path / LAST).is_file():
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
        reason = one_line(error, 200)
        message = f"{one_line(path)}: damaged, or no checkpoint of flowlab ({reason})"
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
    if hashlib.sha256(memoryview(content)[:-64]).hexdigest().encode() != content[-64:]:
        raise ValueError("its SHA-256 does not match, or it is of version 0.1, which had none")
    _check_archive(content)
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    checkpoint: dict[str, Any] = loaded
    if _size(checkpoint, {}) > MOST * len(content):
        raise ValueError("it unfolds to far more than the file holds")
    state, epochs = checkpoint["flowlab"], done_epochs(checkpoint)
    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']!r}; this version reads {FORMAT}")
    parts = (state["config"], checkpoint["state_dict"], checkpoint["callbacks"])
    if not all(isinstance(part, dict) for part in parts) or epochs < 0 or not state["identity"]:
        raise ValueError("its contents are not a checkpoint's")
    _check_finite(checkpoint)
    return checkpoint


def _check_archive(content: bytes) -> None:
    """Look at what torch is going to unpack, before it does: no more than the file holds.

    torch unpacks a bomb, and leaves memory as it is for what passes as a folder; and a pickle can
    make a bytearray of any length.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED or e.external_attr for e in entries):
            raise ValueError("compressed entries, or entries with attributes")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two entries of one name")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("entries that overlap")
        pickled = [entry for entry in entries if entry.filename.endswith(".pkl")]
        made = [i for entry in pickled for i in pickletools.genops(archive.read(entry))]
    for code, argument, _ in made:
        names = code.name in ("GLOBAL", "INST", "STACK_GLOBAL")  # the last of what came before
        if names and not _is_plain(argument):
            raise ValueError(f"it names {argument}, which is no part of a checkpoint")


def _is_plain(name: Any) -> bool:
    """Whether what a pickle names, "module name", is a tensor, its storage or a dictionary."""
    known = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
    return name in (*known, "collections OrderedDict") or bool(
        re.fullmatch(r"torch \w+Storage", str(name))
    )


def _size(value: Any, known: dict[int, int]) -> int:
    """How much a value is when all that is in it twice is written out: bytes, signs and items.

    `known` has the sizes of containers by their id, for one can be in many others; of one that is
    within itself there is none (RecursionError).
    """
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() + 1
    if isinstance(value, str | bytes):
        return len(value) + 1
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in known:
        parts = [*value, *value.values()] if isinstance(value, dict) else list(value)
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


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
