"""A large table: its memory, the wait for its first batch, and rows a second against zuko.

pip install -e ".[bench]" && python tests/benchmarks/table.py [REPEATS]

Writes a Parquet file of 5 million rows and 20 columns, about 400 MB as float32, into a temporary
folder and trains one epoch on it, in turn with a bare loop over the same numbers in memory: the
same layers in zuko and the same optimizer, without validation, pictures or checkpoints. Prints
medians.
"""

import atexit
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import polars as pl_frames
import torch
from peers import Size, models
from speed import HERE, TRAIN, status, training_step
from torch import Tensor

ROWS, COLUMNS = 5_000_000, 20
SIZE = Size(COLUMNS, num_flows=6, num_hidden=64, batch=4096)
TRAINED = int(0.8 * ROWS)


class Clock(pl.Callback):
    """Writes when the first batch began and the last ended, and the peak of memory."""

    def __init__(self, path: str):
        self.path, self.times = Path(path), list[float]()
        atexit.register(self.write)

    def on_train_batch_start(self, *_: Any) -> None:
        self.times = self.times or [time.time()]

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.time())

    def write(self) -> None:
        # not what wait4 tells, which begins with the memory of the process that started this one
        self.path.write_text(f"{self.times[0]} {self.times[-1]} {status('VmHWM')}")


def write_table(path: Path) -> None:
    """Columns that depend on each other, none linear in others."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((4, ROWS), dtype=np.float32)
    columns = {}
    for j in range(COLUMNS):
        noise = rng.standard_normal(ROWS, dtype=np.float32)
        bent = hidden[(j + 1) % 4] ** 2 if j % 3 == 0 else 0
        columns[f"c{j}"] = hidden[j % 4] * (1 + j / 10) + noise / 2 + bent
    pl_frames.DataFrame(columns).write_parquet(path)


def ours(folder: Path, run: str) -> tuple[float, float, float]:
    """Peak bytes, seconds to the first batch, and rows a second, of a run of one epoch."""
    words = [
        "data=table",
        "data.path=table.parquet",
        "trainer.max_epochs=1",
        f"hydra.run.dir={run}",
    ]
    words += [f"data.batch_size={SIZE.batch}", f"num_flows={SIZE.num_flows}"]
    words += [f"num_hidden={SIZE.num_hidden}", "+callbacks.clock._target_=table.Clock"]
    words += ["+callbacks.clock.path=times"]
    start = time.time()
    subprocess.run(
        [*TRAIN, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{HERE}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    first, last, peak = map(float, (folder / "times").read_text().split())
    return peak, first - start, TRAINED / (last - first)


def zuko(x: Tensor) -> float:
    """Rows a second of a bare loop."""
    torch.set_num_threads(1)
    model = models("coupling", SIZE)["zuko"]
    batch = torch.empty(SIZE.batch, COLUMNS)
    step = training_step(model.module, model.log_prob, batch)
    start, steps = time.perf_counter(), len(x) // SIZE.batch
    for index in torch.randperm(len(x))[: steps * SIZE.batch].split(SIZE.batch):
        torch.index_select(x, 0, index, out=batch)
        step()
    return steps * SIZE.batch / (time.perf_counter() - start)


def main(repeats: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "table.parquet")
        x = torch.from_numpy(pl_frames.read_parquet(folder / "table.parquet").to_numpy())
        x = (x - x.mean(0)) / x.std(0)
        runs = [(*ours(folder, f"run{i}"), zuko(x[: TRAINED // 4])) for i in range(repeats)]
    peak, wait, rate, other = map(statistics.median, zip(*runs, strict=True))
    print(f"peak memory            {peak / 2**20:.0f} MiB", end=" = ")
    print(f"{peak / (4 * ROWS * COLUMNS):.2f} of the table as float32")
    print(f"to the first batch     {wait:.1f} s")
    print(f"rows a second          {rate:,.0f} = {rate / other:.2f} of zuko's {other:,.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
