"""Files that are whole or absent, in a directory that is one run's alone."""

import fcntl
import os
from pathlib import Path
from typing import Any

from flowlab.errors import OutputError

_claimed: dict[Path, int] = {}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, sync it and move it there in one step.

    Raises OSError, and leaves what was there before, if it fails or the folder does not exist.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def claim(run_dir: Path, ckpt_path: Any) -> None:
    """Make a run directory, and keep other processes out of it until `release` or this one's end.

    Clears away what a killed process had half-written beside its files. Raises OutputError if the
    directory cannot be made, if another process has it, or if it holds another run than the one
    to go on with.
    """
    run_dir = run_dir.absolute()
    if run_dir in _claimed:
        return
    descriptor = lock(run_dir)
    before = None if ckpt_path is None else Path(str(ckpt_path)).resolve()
    resumed = before is not None and before.is_relative_to(run_dir.resolve())
    if not resumed and holds_run(run_dir):
        os.close(descriptor)
        raise OutputError(
            f"{run_dir}: holds a run already; to go on with it add ckpt_path={run_dir}, "
            "or choose another hydra.run.dir"
        )
    _claimed[run_dir] = descriptor
    for part in run_dir.rglob(".*.part"):
        part.unlink(missing_ok=True)


def lock(folder: Path) -> int:
    """Make a folder and lock it until the descriptor that is returned, or the process, ends.

    Raises OutputError if it cannot be made or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OutputError(
            f"{folder}: another run is writing there; choose another hydra.run.dir"
        ) from error
    return descriptor


def holds_run(run_dir: Path) -> bool:
    """Whether a run has begun to save into a directory."""
    return any((run_dir / name).exists() for name in ("metrics.json", "checkpoints"))


def release(run_dir: Path) -> None:
    """Let other processes have the directory again."""
    if (descriptor := _claimed.pop(run_dir.absolute(), None)) is not None:
        os.close(descriptor)
