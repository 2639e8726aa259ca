"""What a sweep, or any folder of runs, says: a table with error bars, and pictures.

python -m flowlab.report FOLDER ...   writes them into the first folder and prints the table
"""

import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from flowlab import sweep_plots
from flowlab.config import flatten
from flowlab.errors import ConfigError
from flowlab.export import load
from flowlab.files import write_whole
from flowlab.resume import INCIDENTAL

KL = "test/kl"
MEASURES = (KL, "test/nll", "params", "seconds")


class Run(NamedTuple):
    """One run: its folder, its command line, its whole configuration and its result."""

    folder: Path
    overrides: dict[str, str]
    config: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def completed(self) -> bool:
        return self.metrics.get("status") == "completed"

    def value(self, key: str) -> str:
        """What the run had for a key, whether it was set on the command line or not."""
        return str(self.config[key]) if key in self.config else self.overrides.get(key, "-")

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))


class Cell(NamedTuple):
    """The completed runs, or replicates in one, that differ in their seed alone."""

    values: tuple[str, ...]
    runs: list[Run]

    def all(self, measure: str) -> list[float]:
        """The values of all runs and replicates, each seed once."""
        values: dict[int, float] = {}
        for run in self.runs:
            replicates = run.metrics.get("replicates", {}).get(measure, [run.metrics[measure]])
            values |= {run.seed + i: value for i, value in enumerate(replicates)}
        return list(values.values())

    def mean(self, measure: str) -> float:
        return float(np.mean(self.all(measure)))

    def error(self, measure: str) -> float:
        """Standard error of the mean; nan for a single run."""
        values = self.all(measure)
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan


def report(folders: Sequence[Path], output: Path) -> int:
    """Write results.csv, results.md and pictures into `output`, and print the table.

    Returns how many runs failed or have not ended. Folders that hold no run are named and left out.
    Raises ConfigError if there is no run at all.
    """
    runs, left_out = collect(folders)
    if not runs:
        raise ConfigError(f"{', '.join(map(str, folders))}: no runs there (no .hydra/config.yaml)")
    axes = varied(runs)
    cells = fold(runs, axes)
    write_whole(output / "results.csv", to_csv(runs, axes).encode())
    text = to_markdown(runs, cells, axes, left_out)
    write_whole(output / "results.md", text.encode())
    print(text, end="")
    if cells:
        draw(cells, axes, output)
    return sum(not run.completed for run in runs)


def collect(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """All runs below the folders, in the order of their names, and what could not be read."""
    runs, left_out = [], []
    for path in sorted({p for folder in folders for p in folder.rglob(".hydra/config.yaml")}):
        folder = path.parent.parent
        try:
            config = OmegaConf.to_container(OmegaConf.load(path))
            overrides = OmegaConf.load(path.with_name("overrides.yaml"))
            words = dict(word.lstrip("+~").partition("=")[::2] for word in map(str, overrides))
            metrics = _metrics(folder)
            if metrics["status"] == "completed":
                load(folder)  # raises where `draw` would
            runs.append(Run(folder, words, dict(flatten(config)), metrics))
        except Exception as error:  # whatever a stranger's folder trips over
            left_out.append(f"{folder}: {' '.join(str(error).split())[:100]}")
    return runs, left_out


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.exists():
        return {"status": "missing", "error": "no metrics.json: it did not end"}
    metrics = dict(json.loads(path.read_bytes()))
    if metrics["status"] == "completed":
        for measure in MEASURES:
            replicates = metrics.get("replicates", {}).get(measure, [])
            if not all(map(math.isfinite, [metrics[measure], *replicates])):
                raise ValueError(f"{measure} is not finite")
    return metrics | {"status": str(metrics["status"])}


def varied(runs: Sequence[Run]) -> list[str]:
    """The keys of the command line in which runs differ, but not the seed."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    return [
        key
        for key in keys
        if key not in ("seed", "num_threads", "sweep")
        and not key.startswith(INCIDENTAL)
        and len({run.value(key) for run in runs}) > 1
    ]


def fold(runs: Sequence[Run], axes: Sequence[str]) -> list[Cell]:
    """The cells, the lowest mean KL first."""
    cells: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.completed:
            cells.setdefault(tuple(run.value(key) for key in axes), []).append(run)
    folded = [Cell(values, members) for values, members in cells.items()]
    return sorted(folded, key=lambda cell: cell.mean(KL))


def welch_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of Welch's t-test for equal means; nan unless both have two values.

    Source: B. L. Welch, "The generalization of 'Student's' problem when several different
    population variances are involved", Biometrika 34, 1947.

    >>> round(welch_p_value([1.0, 1.1, 1.2], [1.5, 1.7, 1.6]), 4)
    0.0036
    """
    if min(len(first), len(second)) < 2:
        return math.nan
    a, b = (float(np.var(values, ddof=1)) / len(values) for values in (first, second))
    difference = abs(float(np.mean(first)) - float(np.mean(second)))
    if a + b == 0:
        return float(difference == 0)
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    # P(|T| > t) by the substitution x = sqrt(degrees) tan(angle), under which the tail is finite
    angles = np.linspace(math.atan(difference / math.sqrt((a + b) * degrees)), math.pi / 2, 20_001)
    density = np.cos(angles) ** (degrees - 1)
    norm = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    return float(2 * norm * np.trapezoid(density, angles))


def to_csv(runs: Sequence[Run], axes: Sequence[str]) -> str:
    """One row a run: what varied, every figure, the status, its directory."""
    figures = dict.fromkeys(k for run in runs for k, v in run.metrics.items() if _is_figure(v))
    figures.pop("seed", None)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*axes, "seed", *figures, "sha256", "status", "error", "directory"])
    for run in runs:
        row = [run.value(key) for key in (*axes, "seed")]
        row += [run.metrics.get(key, "") for key in figures]
        row += [run.metrics.get(key, "") for key in ("sha256", "status", "error")]
        writer.writerow([*row, run.folder])
    return text.getvalue()


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float)


def to_markdown(
    runs: Sequence[Run], cells: Sequence[Cell], axes: Sequence[str], left_out: Sequence[str]
) -> str:
    """The cells with their seeds folded, the best first, and below them what failed."""
    return "\n".join(_lines(runs, cells, axes, left_out)) + "\n"


def _lines(
    runs: Sequence[Run], cells: Sequence[Cell], axes: Sequence[str], left_out: Sequence[str]
) -> Iterator[str]:
    if cells:
        rows = [["", *axes, "runs", "test/kl", "test/nll", "params", "seconds"]]
        best = cells[0].all(KL)
        for i, cell in enumerate(cells):
            p = welch_p_value(best, cell.all(KL))
            mark = "best" if i == 0 else "=" if p > 0.05 else ""
            figures = [f"{cell.mean(m):.4f} ± {cell.error(m):.4f}" for m in (KL, "test/nll")]
            figures = [figure.replace(" ± nan", "") for figure in figures]
            sizes = [f"{cell.mean('params'):.0f}", f"{cell.mean('seconds'):.1f}"]
            values = [_short(value) for value in cell.values]
            rows.append([mark, *values, str(len(cell.all(KL))), *figures, *sizes])
        yield from _table(rows)
        yield ""
        yield "Nats, mean ± standard error over the seeds. = not significantly worse than the best:"
        yield "Welch's t-test, two-sided, p > 0.05, uncorrected; blank where it is, or cannot tell."
    failures = [run for run in runs if not run.completed]
    if failures:
        yield ""
        rows = [["failed", "status", "reason"]]
        for run in failures:
            reason = " ".join(str(run.metrics.get("error", "")).split()).replace("|", "/")
            rows.append([run.folder.name, run.metrics["status"], reason])
        yield from _table(rows)
    if left_out:
        yield ""
        yield from (f"left out: {line}" for line in left_out)


def _short(value: str) -> str:
    """A value with at most four digits, for reading.

    >>> _short("0.01605191133358762"), _short("128"), _short("cosine")
    ('0.01605', '128', 'cosine')
    """
    try:
        return value if len(value) < 6 else f"{float(value):.4g}"
    except ValueError:
        return value


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for i, row in enumerate(rows):
        line = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"| {' | '.join(line)} |"
        if i == 0:
            yield f"| {' | '.join('-' * width for width in widths)} |"


def draw(cells: Sequence[Cell], axes: Sequence[str], output: Path) -> None:
    """Draw what suits the axes that vary, as PNG in plots/ and for TensorBoard at the root."""
    from torch.utils.tensorboard import SummaryWriter

    plots = output / "plots"
    plots.mkdir(exist_ok=True)
    before = [plots.glob(f"{name}.png") for name in sweep_plots.NAMES]
    figures = list(sweep_plots.figures(cells, axes))
    for path in itertools.chain(output.glob("events.out.tfevents.*.sweep"), *before):
        path.unlink()
    writer = SummaryWriter(output, filename_suffix=".sweep")
    for name, figure in figures:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_whole(plots / f"{name.replace('/', '_')}.png", png.getvalue())
        writer.add_figure(f"sweep/{name}", figure)
    writer.close()


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:]]
    if not folders or not all(folder.is_dir() for folder in folders):
        sys.exit("usage: python -m flowlab.report FOLDER ...   (folders that hold runs)")
    try:
        report(folders, folders[0])
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {error}")
