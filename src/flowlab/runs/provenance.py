"""What a result was made with, so that it can be made again."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("flowlab", "torch", "lightning", "hydra-core", "numpy")


def provenance() -> dict[str, str | int]:
    """Versions, git commit (with "-dirty" for a changed tree), threads and CPU capability."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }


def _commit() -> str:
    """The commit that this file is under; "unknown" where it is not under git's eyes."""
    here = Path(__file__)

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
