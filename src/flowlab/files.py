"""Files that are whole or absent, what is in them by its digest, and where the last run's are."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flowlab.errors import ConfigError

RUNS = ("outputs/*/*", "multirun/*/*/*")  # where conf/train.yaml puts runs
FLOW, LAST = "flow.safetensors", "checkpoints/last.ckpt"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, sync it and move it there in one step.

    Raises OSError, and leaves what was there before, if it fails or the folder does not exist.
    """
    with whole(path) as part:
        part.write_bytes(content)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside a file's place to write it under; at the end it is synced and moved there.

    Whatever is raised meanwhile leaves what was there before, and nothing beside it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_small(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes, as of a stranger's.

    Raises OSError if there is none, or it is something else; nothing waits, as a pipe would.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path.name}: not a file of bytes")
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"{path.name}: {found.st_size} bytes, more than the {most} that are read")
    return content


def clear_parts(path: Path) -> None:
    """Remove what a process that was killed in `whole` has left beside a file's place."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


def digest(paths: Sequence[Path]) -> str:
    """The SHA-256 of a file's content, or of several's one after the other."""
    sha256 = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(2**20):
                sha256.update(chunk)
    return sha256.hexdigest()


def run_at(name: str | Path, file: str = FLOW) -> Path:
    """The path of a run: a name is one, but for `latest`, the run that saved such a file last.

    It is looked for in the default folders. Raises ConfigError if none has such a file.
    """
    if name != "latest":
        return Path(name)
    found = [path for where in RUNS for path in Path().glob(f"{where}/{file}")]
    if not found:
        where = f"{' or '.join(RUNS)} of the working directory"
        raise ConfigError(f"latest: no run with a {file} in {where}")
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    return newest.parents[file.count("/")]
