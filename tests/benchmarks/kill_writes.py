"""SIGKILL in the middle of writing: how many files are left corrupt or missing.

python tests/benchmarks/kill_writes.py [KILLS]

A process writes the files of a run over and over; it is killed at a random moment, and each file
must be whole. So for TMPDIR where it is, on another file system, and on a full one.
"""

import io
import json
import multiprocessing as mp
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from flowlab import load
from flowlab.callbacks.checkpoint import PatientIO
from flowlab.export import save
from flowlab.files import write_whole
from flowlab.flows import build_flow
from flowlab.runs.checkpoints import FORMAT, read_checkpoint


def write_all(folder: Path) -> None:
    flow = build_flow("coupling", 2, num_flows=8, num_hidden=64)
    save(flow, folder / "flow.safetensors")
    progress = {"epoch_progress": {"current": {"processed": 1}}}
    checkpoint = {
        "state_dict": flow.state_dict(),
        "optimizer_states": [],
        "callbacks": {},
        "loops": {"fit_loop": progress},
        "flowlab": {"format": FORMAT, "config": {}, "identity": "x"},
    }
    disk = PatientIO(before_writing=lambda: None)
    disk.save_checkpoint(checkpoint, folder / "last.ckpt")
    disk.flush()
    write_whole(folder / "metrics.json", json.dumps({"test/nll": 2.0, "x": "y" * 5000}).encode())
    png = io.BytesIO()
    Figure(figsize=(5, 5)).savefig(png, format="png")
    write_whole(folder / "density.png", png.getvalue())


def write_for_ever(folder: Path) -> None:
    torch.set_num_threads(1)
    while True:
        write_all(folder)


def look_at_picture(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


CHECKS: dict[str, Callable[[Path], object]] = {
    "flow.safetensors": load,
    "last.ckpt": read_checkpoint,
    "metrics.json": lambda path: json.loads(path.read_bytes()),
    "density.png": look_at_picture,
}


def kill_and_look(kills: int, dice: random.Random) -> tuple[int, int]:
    """How many files were corrupt, and how many missing, after so many kills."""
    corrupt = missing = 0
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        write_all(folder)
        for _ in range(kills):
            process = mp.get_context("fork").Process(target=write_for_ever, args=(folder,))
            process.start()
            time.sleep(dice.uniform(0, 0.15))
            process.kill()
            process.join()
            for file, check in CHECKS.items():
                if not (folder / file).exists():
                    missing += 1
                    continue
                try:
                    check(folder / file)
                except Exception as error:
                    print(error)
                    corrupt += 1
    return corrupt, missing


@contextmanager
def tmpfs(size: str) -> Iterator[str | None]:
    """A file system in memory, of a size; None where the machine does not allow it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            yield None
            return
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def main(kills: int) -> int:
    torch.set_num_threads(1)  # a process with threads must not be forked
    dice, bad = random.Random(0), 0
    with tmpfs("64m") as other, tmpfs("4k") as full:
        if full is not None:
            Path(full, "rest").write_bytes(bytes(4096))
        places = {
            "as it is": tempfile.gettempdir(),
            "on another disk": other,
            "on a full disk": full,
        }
        for name, place in places.items():
            if place is None:
                print(f"TMPDIR {name}: not tried, this machine does not let us mount")
                continue
            os.environ["TMPDIR"], tempfile.tempdir = place, place
            corrupt, missing = kill_and_look(kills, dice)
            print(f"TMPDIR {name}: {kills} kills, {corrupt} files corrupt, {missing} missing")
            bad += corrupt + missing
    return bad


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200) != 0)
