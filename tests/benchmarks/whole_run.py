"""Wall time of the whole `python train.py` against the bare reference script, side by side.

python tests/benchmarks/whole_run.py [REPEATS]

Runs both in turn (the first pair warms the caches and is not counted), prints the medians and
their ratio, and what `--help` and `--cfg job` cost in units of `import hydra`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / "train.py")]
REFERENCE = [sys.executable, str(Path(__file__).with_name("reference.py"))]


def seconds(command: list[str], cwd: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def compare(commands: dict[str, list[str]], repeats: int) -> dict[str, float]:
    """Median seconds of each command, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats + 1):
            for name, command in commands.items():
                elapsed = seconds(command, folder)
                if repeat:
                    times[name].append(elapsed)
    for name, values in times.items():
        print(f"{name:<28}median {statistics.median(values):6.2f} s  of", end=" ")
        print(", ".join(f"{value:.2f}" for value in values))
    return {name: statistics.median(values) for name, values in times.items()}


def main(repeats: int) -> None:
    print(f"{os.cpu_count()} cores, {repeats} repeats")
    times = compare(
        {
            "reference.py": [*REFERENCE, "figures"],
            "train.py": TRAIN,
            "train.py experiment=fast": [*TRAIN, "experiment=fast"],
        },
        repeats,
    )
    base = times["reference.py"]
    print(f"train.py / reference.py: {times['train.py'] / base:.2f}")
    print(
        f"train.py experiment=fast / reference.py: {times['train.py experiment=fast'] / base:.2f}"
    )
    times = compare(
        {
            "import hydra": [sys.executable, "-c", "import hydra"],
            "train.py --help": [*TRAIN, "--help"],
            "train.py --cfg job": [*TRAIN, "--cfg", "job"],
        },
        3 * repeats,
    )
    for name in ("train.py --help", "train.py --cfg job"):
        print(f"{name} / import hydra: {times[name] / times['import hydra']:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
