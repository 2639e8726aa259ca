"""A run's directory: one process's at a time, and nobody else's."""

import fcntl
import os
import re
import shutil
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from flowlab.errors import OutputError

EVENT_FILES = "events.out.tfevents.*"
LOG = "train.log"
BEGUN = (".hydra", "*.log")  # what Hydra writes into a run directory before the run does
LOG_PROBS = "test_log_prob.npy"
RESULTS = ("metrics.json", ".metrics.json.*.part", "flow.safetensors", "checkpoints", "plots")
RUN_FILES = (*BEGUN, *RESULTS, LOG_PROBS, EVENT_FILES)
# in a run directory, what `write_whole` leaves of a run's files if the process is killed
PART = re.compile(
    r"(checkpoints/\.(best|last)\.ckpt|plots/\.\w+\.(png|gif)|\.metrics\.json|\.flow\.safetensors"
    r"|\.test_log_prob\.npy)"
    r"\.\d+\.part"
)

# for each run directory the lock, and the folders that were made for it; None if it had files
_claimed: dict[Path, tuple[int, list[Path] | None]] = {}

# of conf/train.yaml: the folder's name for a time, and the name that the user gave the run
OmegaConf.register_new_resolver(
    "named", lambda time, name: time if name is None else f"{time}-{name}", replace=True
)


def claim(run_dir: Path, ckpt_path: Any) -> None:
    """Make a run directory, and keep other processes out of it until `release` or this one's end.

    It must be empty, but for what Hydra writes, or the directory of the run to go on with, of which
    half-written files of a killed process are cleared away. Raises OutputError if it is neither,
    if it cannot be made, or if another process has it.
    """
    run_dir = run_dir.absolute()
    if run_dir in _claimed:
        return
    made = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    descriptor = lock(run_dir)
    if ckpt_path is not None and run_of(Path(str(ckpt_path))) == run_dir.resolve():
        for folder in (run_dir, run_dir / "checkpoints", run_dir / "plots"):
            for part in folder.glob(".*.part"):
                if PART.fullmatch(part.relative_to(run_dir).as_posix()):
                    part.unlink(missing_ok=True)
    elif others := strangers(run_dir, BEGUN):
        os.close(descriptor)
        if holds_run(run_dir):
            reason = f"holds a run already; to go on with it add ckpt_path={run_dir}, or"
        else:
            reason = f"holds {listed(others)}; a run needs an absent or an empty folder:"
        raise OutputError(f"{run_dir}: {reason} choose another hydra.run.dir")
    _claimed[run_dir] = descriptor, None if any(run_dir.iterdir()) else made


def run_of(ckpt_path: Path) -> Path:
    """The directory of the run that a checkpoint, or the directory itself, is of."""
    path = ckpt_path.resolve()
    in_place = path.parent.name == "checkpoints" and not path.is_dir()
    return path.parent.parent if in_place else path


def strangers(folder: Path, known: tuple[str, ...]) -> list[str]:
    """The names in a folder, sorted, that match none of the known patterns."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if not any(fnmatch(name, pattern) for pattern in known)]


def listed(names: list[str]) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def lock(folder: Path, key: str = "hydra.run.dir") -> int:
    """Make the folder of a key and lock it until the descriptor that is returned is closed.

    Or until the process ends. Raises OutputError if it cannot be made or another process has it.
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
            f"{folder}: another run is writing there; choose another {key}"
        ) from error
    return descriptor


def holds_run(run_dir: Path) -> bool:
    """Whether a run has begun to save into a directory."""
    return any(
        next(run_dir.glob(name), None) for name in ("metrics.json", "checkpoints", EVENT_FILES)
    )


def release(run_dir: Path) -> None:
    """Let other processes have the directory again."""
    if (claimed := _claimed.pop(run_dir.absolute(), None)) is not None:
        os.close(claimed[0])


def undo(run_dir: Path) -> bool:
    """Have a run that did not begin leave nothing, not even folders that were made for it.

    Returns False, with all as it is, if its directory has or had files that are not Hydra's.
    """
    made = _claimed[run_dir.absolute()][1]
    if made is None or strangers(run_dir, (".hydra", LOG)):
        return False
    shutil.rmtree(run_dir / ".hydra", ignore_errors=True)
    (run_dir / LOG).unlink(missing_ok=True)
    with suppress(OSError):  # of another run's folders the outer ones may be too
        for folder in made:
            folder.rmdir()
    return True


def shown(path: Path) -> str:
    """A path as one is used to read it: from here, if there is a here."""
    try:
        return os.path.relpath(path)
    except FileNotFoundError:  # the working directory was deleted
        return str(path)
