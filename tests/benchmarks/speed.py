"""flowlab against zuko, normflows and nflows at the same work, and against its own bare loop.

pip install -e ".[bench]" && python tests/benchmarks/speed.py [TABLE ...]

Prints the tables (all of them, or those named: peers families images compiled
whole quality growth sweep)
and saves them as benchmarks/TABLE.md, with benchmarks/growth.png, in the current folder. Each
figure is the median over repeats, in which what is compared runs in turn; a sweep is run once.
`--device cuda` is for peers, families, compiled and growth, and goes into their files' names.
`--small` does everything once and in its least size, to see that it runs: its figures mean nothing.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

HERE = Path(__file__).resolve().parent
TRAIN = [sys.executable, str(HERE.parents[1] / "train.py")]
SQUARE = 1024
STEPS = {"small": (60, 15), "middle": (10, 11), "large": (1, 9)}  # in a repeat; repeats
SMALL = "--small" in sys.argv
REPEATS = 1 if SMALL else 3
EPOCH = ["trainer.max_epochs=1"] if SMALL else []
Row = Sequence[object]


def markdown(rows: Sequence[Row]) -> str:
    lines = [" | ".join(map(str, row)) for row in rows]
    lines.insert(1, " | ".join("---" for _ in rows[0]))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def interleaved(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turn; of several turns the first warms up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in (1,) if SMALL else range(repeats + 1):
        order = list(work.items())
        for name, function in order[repeat % len(order) :] + order[: repeat % len(order)]:
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def many(function: Callable[[], object], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(1 if SMALL else count):
            function()

    return run


def sizes(*names: str) -> dict[str, Any]:
    """The sizes of flows of these names."""
    from peers import SIZES

    return {name: SIZES[name] for name in (names[:1] if SMALL else names)}


def training_step(
    module: torch.nn.Module,
    log_prob: Callable[[Tensor], Tensor],
    x: Tensor,
    after: Callable[[], object] = lambda: None,
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss = -log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after()

    return step


def kinds_of_work(made: dict[str, Any], x: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """What each library does in a step, in log_prob and in sample, with as many points as in x."""
    return {
        "step": {n: training_step(m.module, m.log_prob, x, m.after_step) for n, m in made.items()},
        "log_prob": {n: no_grad(m.log_prob, x) for n, m in made.items()},
        "sample": {n: no_grad(m.sample, len(x)) for n, m in made.items()},
    }


def peers(device: str) -> str:
    """Milliseconds of a step, of log_prob and of sample; the last columns are flowlab's.

    "matmul share" is its rate of operations in matrix products against that of a product of two
    large square matrices.
    """
    from peers import LIBRARIES, models

    rows: list[Row] = [["threads", "size", "", *LIBRARIES, "/ fastest peer", "matmul share"]]
    for threads in (1, 2) if device == "cpu" else (1,):
        torch.set_num_threads(threads)
        for name, size in sizes(*STEPS).items():
            made, (count, repeats) = models("coupling", size, device), STEPS[name]
            x = torch.randn(size.batch, size.dim, device=device)
            square = partial(torch.mm, *2 * [torch.randn(SQUARE, SQUARE, device=device)])
            for kind, functions in kinds_of_work(made, x).items():
                work = {n: many(f, count) for n, f in functions.items()}
                work["matmul"] = many(square, count)
                seconds = interleaved(work, repeats)
                fastest = min(s for n, s in seconds.items() if n not in ("flowlab", "matmul"))
                ratio = f"{seconds['flowlab'] / fastest:.2f}"
                work_done = operations(size) * (3 if kind == "step" else 1) / 2 / SQUARE**3
                share = f"{work_done * seconds['matmul'] / seconds['flowlab']:.2f}"
                figures = [f"{1e3 * seconds[n] / count:.2f}" for n in LIBRARIES]
                rows.append([threads, name, kind, *figures, ratio, share])
                print(*rows[-1], file=sys.stderr)
    torch.set_num_threads(1)
    return markdown(rows)


def families(device: str) -> str:
    """Milliseconds of a step, of log_prob and of sample of every family that a peer has."""
    from peers import FAMILIES, LIBRARIES, models

    rows: list[Row] = [["family", "size", "", *LIBRARIES, "/ fastest peer"]]
    for family in FAMILIES:
        for name, size in sizes("small", "middle").items():
            made = models(family, size, device)
            x = torch.randn(size.batch, size.dim, device=device)
            for kind, functions in kinds_of_work(made, x).items():
                able = {n: f for n, f in functions.items() if _is_able(f)}
                seconds, count = _paced(able)
                figures = [
                    f"{1e3 * seconds[n] / count:.2f}" if n in seconds else "-" for n in LIBRARIES
                ]
                others = [s for n, s in seconds.items() if n != "flowlab"]
                ratio = f"{seconds['flowlab'] / min(others):.2f}" if others else "-"
                rows.append([family, name, kind, *figures, ratio])
                print(*rows[-1], file=sys.stderr)
    return markdown(rows)


def images(device: str) -> str:
    """Milliseconds of a step, of log_prob and of sample of Glow on 64 images of 28 x 28."""
    from peers import glows

    rows: list[Row] = [["steps", "channels", "", "flowlab", "normflows", "/ normflows"]]
    for num_flows, num_hidden in ((4, 32), (8, 32), (4, 64))[:REPEATS]:
        x = torch.randn(64, 28, 28, 1)
        for kind, functions in kinds_of_work(glows(num_flows, num_hidden, 28), x).items():
            seconds, count = _paced(functions)
            figures = [f"{1e3 * seconds[n] / count:.1f}" for n in ("flowlab", "normflows")]
            ratio = f"{seconds['flowlab'] / seconds['normflows']:.2f}"
            rows.append([num_flows, num_hidden, kind, *figures, ratio])
            print(*rows[-1], file=sys.stderr)
    return markdown(rows)


def _is_able(function: Callable[[], object]) -> bool:
    """Whether a library has a direction at all."""
    try:
        function()
    except (NotImplementedError, AttributeError):
        return False
    return True


def _paced(functions: dict[str, Callable[[], object]]) -> tuple[dict[str, float], int]:
    """Median seconds of as many calls as take a tenth of a second or so, and their number."""
    start = time.perf_counter()
    for function in functions.values():
        function()
    each = (time.perf_counter() - start) / len(functions)
    count = max(1, min(20, round(0.1 / each)))
    return interleaved(
        {n: many(f, count) for n, f in functions.items()}, 7 if each < 1 else 3
    ), count


def no_grad(function: Callable[[Any], object], argument: Any) -> Callable[[], object]:
    return torch.no_grad()(lambda: function(argument))


def operations(size: Any) -> int:
    """Floating-point operations in the matrix products of one forward pass."""
    widths = (size.dim // 2, size.num_hidden, size.num_hidden, size.dim)
    return 2 * size.batch * size.num_flows * sum(n * m for n, m in pairwise(widths))


def compiled(device: str) -> str:
    """What torch.compile gives a training step, and after how many steps it has paid off."""
    from flowlab.flows import build_flow

    rows: list[Row] = [["size", "plain ms", "compiled ms", "compiling s", "pays off after"]]
    for name, size in sizes(*STEPS).items():
        flow = build_flow(
            "coupling", size.dim, num_flows=size.num_flows, num_hidden=size.num_hidden
        )
        flow, x = flow.to(device), torch.randn(size.batch, size.dim, device=device)
        plain = training_step(flow, flow.log_prob, x)
        fast = training_step(flow, torch.compile(flow.log_prob), x)
        start = time.perf_counter()
        fast()
        compiling, (count, repeats) = time.perf_counter() - start, STEPS[name]
        seconds = interleaved({"plain": many(plain, count), "fast": many(fast, count)}, repeats)
        gain = (seconds["plain"] - seconds["fast"]) / count
        steps = f"{compiling / gain:.0f} steps" if gain > 0 else "never"
        figures = [f"{1e3 * s / count:.2f}" for s in seconds.values()]
        rows.append([name, *figures, f"{compiling:.0f}", steps])
    return markdown(rows)


def whole(device: str) -> str:
    """Seconds of the whole command and of its training against the reference and the bare loop."""
    commands = {
        "reference.py": [sys.executable, str(HERE / "reference.py"), "figures"],
        "lean.py": [sys.executable, str(HERE / "lean.py")],
        "train.py": [*TRAIN, *EPOCH],
        "train.py experiment=fast": [*TRAIN, "experiment=fast", *EPOCH],
        "train.py replicates=32": [*TRAIN, "replicates=32", *EPOCH],
    }
    training: dict[str, list[float]] = {name: [] for name in commands}

    def run(name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = subprocess.check_output(commands[name], cwd=folder, text=True)
        found = re.search(r"training ([\d.]+)|seconds +([\d.]+)", output)
        assert found is not None
        training[name].append(float(found[1] or found[2]))

    seconds = interleaved({name: (lambda n=name: run(n)) for name in commands}, 3)
    rows: list[Row] = [
        ["command", "seconds", "/ reference.py", "training", "/ lean.py", "whole / train.py"]
    ]
    medians = {name: statistics.median(values[-3:]) for name, values in training.items()}
    for name in commands:
        ratios = seconds[name] / seconds["reference.py"], medians[name] / medians["lean.py"]
        figures = [f"{v:.2f}" for v in (seconds[name], ratios[0], medians[name], ratios[1])]
        figures.append(f"{seconds[name] / seconds['train.py']:.2f}")
        rows.append([f"`{name}`", *figures])
    start = {
        "import hydra": [sys.executable, "-c", "import hydra"],
        "train.py --help": [*TRAIN, "--help"],
        "train.py --cfg job": [*TRAIN, "--cfg", "job"],
        "import lightning": [sys.executable, "-c", "import lightning.pytorch"],
        "train.py to its first step": [*TRAIN, "trainer.max_epochs=1", "data.num_train=1"],
    }
    text = markdown(rows) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"cwd": folder, "stdout": subprocess.DEVNULL}
        work = {n: (lambda c=c: subprocess.run(c, check=True, **quiet)) for n, c in start.items()}
        seconds = interleaved(work, 5)
    for name in ("train.py --help", "train.py --cfg job"):
        text += f"`{name}` / `import hydra`: {seconds[name] / seconds['import hydra']:.2f}\n"
    ratio = seconds["train.py to its first step"] / seconds["import lightning"]
    return text + f"a run of one step, to its end / `import lightning`: {ratio:.2f}\n"


def quality(device: str) -> str:
    """Seconds of training until the test KL that the reference script ends with."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "reference.py"), folder]
        output = [subprocess.check_output(command, text=True) for _ in range(REPEATS)]
    found = [re.search(r"training ([\d.]+) s, test KL ([\d.]+)", line) for line in output]
    seconds = statistics.median(float(match[1]) for match in found if match)
    kl = statistics.median(float(match[2]) for match in found if match)
    rows: list[Row] = [["run", f"seconds to a KL of {kl:.4f}", "/ reference.py"]]
    rows.append(["`reference.py`", f"{seconds:.2f}", "1.00"])
    for words in ((), ("experiment=fast",)):
        times = [time_to(kl, *words, *EPOCH) for _ in range(REPEATS)]
        median = statistics.median(times)
        name = " ".join(("train.py", *words))
        reached = median < float("inf")
        figures = [f"{median:.2f}", f"{median / seconds:.2f}"] if reached else ["not reached", ""]
        rows.append([f"`{name}`", *figures])
    return markdown(rows)


def time_to(kl: float, *words: str) -> float:
    """Seconds of a run's training up to the first epoch with a lower test KL."""
    import lightning.pytorch as pl
    from hydra import compose, initialize_config_dir

    from flowlab.experiment import train

    class Watch(pl.Callback):
        reached = float("inf")
        looking = 0.0  # the time that the look itself takes

        def on_train_start(self, trainer: Any, module: Any) -> None:
            self.start = time.perf_counter()

        @torch.no_grad()
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            now, data = time.perf_counter(), trainer.datamodule.of(0)
            gap = data.truth.log_prob(data.test.x) - module.replicates.flow(0).log_prob(data.test.x)
            if float(gap.mean()) < kl:
                self.reached = min(self.reached, now - self.start - self.looking)
            self.looking += time.perf_counter() - now

    watch = Watch()
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(HERE.parents[1] / "conf"), version_base="1.3"),
    ):
        train(compose("train", [*words, f"run_dir={folder}"]), [watch])
    return watch.reached


AXES = {
    "depth": ("num_flows", (2, 6, 20, 60, 200)),
    "width": ("num_hidden", (16, 50, 160, 500, 1600)),
    "dim": ("shape", (4, 12, 40, 120, 400)),
    "batch": ("batch", (64, 200, 640, 2000, 6400)),
    "points, log_prob": ("log_prob", (10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7)),
    "points, sample": ("sample", (10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7)),
}


def growth(device: str) -> str:
    """Time and peak memory along each axis, with the exponents over its upper decade."""
    rows: list[Row] = [["", "from", "to", "exponent of time", "of memory", "at the end"]]
    figure = Figure(figsize=(12, 6), layout="constrained")
    for ax, (name, (key, values)) in zip(figure.subplots(2, 3).flat, AXES.items(), strict=True):
        values = values[:2] if SMALL else values
        measured = np.array([in_child(key, value, device) for value in values])
        seconds, memory = measured.T
        slopes = [np.polyfit(np.log(values[-3:]), np.log(m[-3:]), 1)[0] for m in (seconds, memory)]
        exponents = [f"{slope:.2f}" for slope in slopes]
        rows.append([name, values[0], values[-1], *exponents, f"{memory[-1] / 2**20:.0f} MiB"])
        print(*rows[-1], file=sys.stderr)
        ax.loglog(values, 1e3 * seconds, "o-", label=f"milliseconds, exponent {exponents[0]}")
        ax.loglog(values, memory / 2**20, "s--", label=f"MiB, exponent {exponents[1]}")
        ax.set(xlabel=name)
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig("benchmarks/growth.png")
    return markdown(rows)


def in_child(key: str, value: int, device: str) -> tuple[float, float]:
    """Seconds and bytes of a step or a pass, from a process of its own."""
    command = [sys.executable, __file__, "--measure", key, str(value), "--device", device]
    seconds, memory = subprocess.check_output(command, text=True).split()
    return float(seconds), float(memory)


def measure(key: str, value: int, device: str) -> None:
    from flowlab.flows import build_flow

    torch.set_num_threads(1)
    size = {"shape": 2, "num_flows": 4, "num_hidden": 64, "batch": 256}
    if key in size:
        size[key] = value
    batch = size.pop("batch")
    flow = build_flow("coupling", **size).to(device)
    work: Callable[[], object]
    if key in ("log_prob", "sample"):
        n, function = value, getattr(flow, key)
        work = no_grad(function, n if key == "sample" else torch.randn(n, 2, device=device))
    else:
        work = training_step(flow, flow.log_prob, torch.randn(batch, *flow.shape, device=device))
    little = build_flow("coupling", 2).to(device)  # loads the libraries
    training_step(little, little.log_prob, torch.randn(64, 2, device=device))()
    if device == "cpu":
        with Path("/proc/self/clear_refs").open("w") as file:
            file.write("5")  # the peak counts from here
        before = status("VmRSS")
        work()
        memory = status("VmHWM") - before
    else:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        memory = torch.cuda.max_memory_allocated() - before
    seconds = interleaved({"": work}, 3 if value >= 10**6 else 7)[""]
    print(seconds, max(memory, 2**16))


def status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", text)[1])  # type: ignore[index]


NO_PICTURES = [f"~callbacks.{n}" for n in ("density", "film", "samples", "grid", "loss", "latents")]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
CELLS = {
    "16 cells": ["seed=range(16)"],
    "8 cells": ["seed=range(8)"],
    "8 cells of 300 epochs, no pictures": ["seed=range(8)", "trainer.max_epochs=300", *NO_PICTURES],
}
SMALL_CELLS = {"2 cells": ["seed=range(2)", *EPOCH]}


def sweep(device: str) -> str:
    """Wall time of sweeps against the training of their cells, in turn and side by side."""
    rows: list[Row] = [["cells", "in turn", "/ their training", "by joblib", "/ in turn"]]
    with tempfile.TemporaryDirectory() as folder:
        for name, words in (SMALL_CELLS if SMALL else CELLS).items():
            seconds = []
            for kind in ([], JOBLIB):
                start, sweep = time.perf_counter(), Path(folder, f"{len(rows)}-{len(kind)}")
                command = [*TRAIN, "-m", *words, *kind, f"hydra.sweep.dir={sweep}"]
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
                seconds.append(time.perf_counter() - start)
            serial = Path(folder, f"{len(rows)}-0").glob("*/metrics.json")
            training = sum(json.loads(path.read_bytes())["seconds"] for path in serial)
            ratios = [f"{seconds[0] / training:.2f}", f"{seconds[1] / seconds[0]:.2f}"]
            row = (name, f"{seconds[0]:.1f} s", ratios[0], f"{seconds[1]:.1f} s", ratios[1])
            rows.append(row)
            print(*row, file=sys.stderr)
    return f"{markdown(rows)}\non {os.cpu_count()} cores\n"


WORK = (peers, families, images, compiled, whole, quality, growth, sweep)
TABLES = {f.__name__: f for f in WORK}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", choices=[[], *TABLES])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], int(arguments.measure[1]), arguments.device)
        return
    Path("benchmarks").mkdir(exist_ok=True)
    torch.set_num_threads(1)
    anywhere = (peers.__name__, families.__name__, compiled.__name__, growth.__name__)
    names = arguments.tables or (TABLES if arguments.device == "cpu" else anywhere)
    if arguments.device != "cpu" and not set(names) <= set(anywhere):
        parser.error(f"--device {arguments.device} is for {', '.join(anywhere)}")
    for name in names:
        table = TABLES[name](arguments.device)
        print(f"{name}: {TABLES[name].__doc__}\n\n{table}", flush=True)
        suffix = "" if arguments.device == "cpu" else f"-{arguments.device}"
        Path("benchmarks", f"{name}{suffix}.md").write_text(table)


if __name__ == "__main__":
    main()
