"""What a sweep, or any folder of runs, says: a table with error bars, and pictures.

python -m flowlab report FOLDER ...   writes them into the first folder and prints the table
"""

import csv
import io
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowlab.commands.tables import to_markdown
from flowlab.commands.terminal import print_anywhere
from flowlab.errors import ConfigError
from flowlab.files import write_whole
from flowlab.plots import sweep as sweep_plots
from flowlab.plots.overview import overview
from flowlab.runs.results import Ranking, Run, across, collect, rank, varied
from flowlab.runs.settings import trial_id


def report(folders: Sequence[Path], output: Path) -> int:
    """Write results.csv, results.md and pictures into `output`, and print the table.

    Returns how many runs failed or have not ended. Folders that hold no run are named and left out.
    Raises ConfigError if there is no run at all.
    """
    runs, left_out = collect(folders)
    if not runs:
        raise ConfigError(f"{', '.join(map(str, folders))}: no runs there (no .hydra/config.yaml)")
    rankings = rank(runs)
    text = to_markdown(runs, rankings, left_out, output)
    write_whole(output / "results.csv", to_csv(runs).encode(errors="replace"))
    write_whole(output / "results.md", text.encode(errors="replace"))
    _print(text)
    if rankings:
        draw(rankings, output)
        logdir = shlex.quote(str(output))
        _print(
            f"\ntable        {output / 'results.md'}, and each run in results.csv\n"
            f"pictures     {output / 'plots'}\n"
            f"tensorboard --logdir {logdir} --samples_per_plugin images=1000\n"
        )
    return sum(not run.completed for run in runs)


def _print(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # nobody reads on, but pictures and an exit code are still wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def to_csv(runs: Sequence[Run]) -> str:
    """One row a run: what varied, every figure, the status, its directory."""
    axes = varied(runs)
    figures = dict.fromkeys(k for run in runs for k, v in run.metrics.items() if _is_figure(v))
    figures.pop("seed", None)
    text = io.StringIO()
    writer = csv.writer(text)
    names = [axis.name for axis in axes]
    writer.writerow([*names, "seed", *figures, "id", "sha256", "status", "error", "directory"])
    for run in runs:
        row = [*(axis.of(run) for axis in axes), run.seed]
        row += [run.metrics.get(key, "") for key in figures]
        row += [trial_id(run.settings)]
        row += [run.metrics.get(key, "") for key in ("sha256", "status", "error")]
        writer.writerow([*row, run.folder])
    return text.getvalue()


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float)


def draw(rankings: Sequence[Ranking], output: Path) -> None:
    """Draw what suits the axes that vary, as PNG in plots/ and for TensorBoard at the root."""
    from torch.utils.tensorboard import SummaryWriter

    plots = output / "plots"
    plots.mkdir(exist_ok=True)
    before = [plots.glob(f"{name}{end}.png") for name in sweep_plots.NAMES for end in ("", "-*")]
    figures = [*overview(across(rankings), rankings)]
    figures += [figure for ranking in rankings for figure in sweep_plots.figures(ranking)]
    for path in itertools.chain(output.glob("events.out.tfevents.*.sweep"), *before):
        path.unlink()
    writer = SummaryWriter(output, filename_suffix=".sweep")
    for name, figure in figures:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_whole(plots / f"{quote(name, safe=' =,+')[:200]}.png", png.getvalue())
        writer.add_figure(f"sweep/{name}", figure)
    writer.close()


def main(words: Sequence[str]) -> None:
    """Python -m flowlab report FOLDER ...: report on the runs in folders, into the first."""
    folders = [Path(word) for word in words]
    if not folders or not all(folder.is_dir() for folder in folders):
        sys.exit("usage: python -m flowlab report FOLDER ...   (folders that hold runs)")
    print_anywhere()
    try:
        report(folders, folders[0])
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {error}")
