"""Runs that are cut by signals at random moments, and gone on with: do they end the same.

python tests/benchmarks/kill_runs.py [RUNS] [SEED]

Every second run is on a table with noise. Each gets three of SIGKILL, SIGINT and SIGTERM, in its
imports, its training or its end. Its metrics, weights and curves are compared to the bit with those
of a run that nobody disturbed.
"""

import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [
    *(sys.executable, str(ROOT / "train.py"), "trainer.max_epochs=40", "schedule=cosine"),
    "callbacks.checkpoint.every_n_train_steps=3",
    *(f"~callbacks.{name}" for name in ("density", "film", "samples", "grid", "latents", "loss")),
]
KINDS = {
    "toy": [*TRAIN, "data.num_train=200", "data.num_val=100"],
    "table": [*TRAIN, "data=table", "data.path=../table.csv", "data.noise={n: 1}"],
}
EXIT_CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


def result(run: Path) -> dict[str, Any]:
    """All that must be equal between two runs of one configuration."""
    scalars = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    curves = {
        tag: [(event.step, event.value) for event in scalars.Scalars(tag)]
        for tag in scalars.Tags()["scalars"]
        if not tag.endswith("per_second")
    }
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["seconds"], metrics["environment"]  # the commit may change meanwhile
    weights = (run / "flow.safetensors").read_bytes()
    return {"metrics": metrics, "weights": weights, "curves": curves}


def was_complete(run: Path, moment: float) -> bool:
    """Whether a run had written its result at a moment: then no signal could be heeded."""
    path = run / "metrics.json"
    if not path.exists() or path.stat().st_mtime > moment:
        return False
    return bool(json.loads(path.read_text())["status"] == "completed")


def write_table(path: Path) -> None:
    """A column of numbers, and one of counts that depend on it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    rows = (f"{a:.6f},{n}\n" for a, n in zip(x, rng.poisson(np.exp(1 + x / 2)), strict=True))
    path.write_text("x,n\n" + "".join(rows))


def cut_and_go_on(kind: str, folder: Path, name: str, dice: random.Random) -> list[str]:
    """Three signals and then the end; returns what each of them did."""
    told = []
    again: list[str] = []
    for _ in range(3):
        process = subprocess.Popen(
            [*KINDS[kind], f"hydra.run.dir={name}", *again],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(dice.uniform(0.6, 4.2))
        signum = dice.choice(list(EXIT_CODES))
        process.send_signal(signum)
        sent = time.time()
        _, errors = process.communicate()
        told.append(f"{signum.name} {process.returncode}")
        # Python's last act, after the run's, is to give signals back to the system
        honest = [EXIT_CODES[signum], -signum] + [0] * was_complete(folder / name, sent)
        if process.returncode not in honest or "Traceback" in errors:
            raise SystemExit(f"{told[-1]}:\n{errors}")
        if (folder / name / ".hydra").exists():
            again = [f"ckpt_path={name}"]
    subprocess.run(
        [*KINDS[kind], f"hydra.run.dir={name}", *again], cwd=folder, check=True, capture_output=True
    )
    return told


def main(runs: int, seed: int) -> int:
    dice, different = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        write_table(Path(name, "table.csv"))
        for i, kind in zip(range(runs), itertools.cycle(KINDS), strict=False):
            folder = Path(name, kind)
            if not folder.exists():
                folder.mkdir()
                whole = [*KINDS[kind], "hydra.run.dir=whole"]
                subprocess.run(whole, cwd=folder, check=True, capture_output=True)
            told = cut_and_go_on(kind, folder, f"cut{i}", dice)
            same = result(folder / f"cut{i}") == result(folder / "whole")
            different += not same
            print(f"{kind}: {', '.join(told)}: {'the same' if same else 'DIFFERENT'}", flush=True)
    print(f"{3 * runs} signals, {different} of {runs} runs ended differently")
    return different


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(numbers + [10, 0][len(numbers) :])) != 0)
