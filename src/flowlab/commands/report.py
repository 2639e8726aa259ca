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

from flowlab.commands.forms import render
from flowlab.commands.pair import against
from flowlab.commands.tables import first_table, order, to_markdown
from flowlab.commands.terminal import one_line_errors
from flowlab.commands.using import Parser
from flowlab.errors import ConfigError, OutputError, printable
from flowlab.files import run_at, write_whole
from flowlab.plots import sweep as sweep_plots
from flowlab.plots.overview import overview
from flowlab.runs.reading import collect, is_run
from flowlab.runs.results import Ranking, Run, rank, shared, varied
from flowlab.runs.settings import trial_id

HELP = """Compare the runs in folders: a table with error bars, in results.md, table.csv and
table.tex, each run in results.csv, and pictures, all in the first folder or in that of -o.

Two runs, A and B, are compared on their test points; nothing is written then without -o.
"""


def report(folders: Sequence[Path], output: Path) -> int:
    """Print the table of all runs in folders; write it and pictures into `output`.

    There are results.csv, results.md, and the first table of these in table.csv and table.tex.
    Into a folder that it may not write to it writes nothing, and says so. Returns how many runs
    failed or have not ended. Folders that hold no run are named and left out. Raises ConfigError if
    there is no run at all, and OutputError for a folder of pictures that is somewhere else.
    """
    runs, left_out = collect(folders)
    if not runs:
        reasons = "".join(f"; {line}" for line in left_out[:3]) or " (no .hydra/config.yaml)"
        raise ConfigError(f"{', '.join(map(str, folders))}: no runs there{reasons}")
    rankings = rank(runs)
    text = to_markdown(runs, rankings, left_out, output)
    _print(text)
    if not os.access(output, os.W_OK):
        _print(f"\nnothing was written: {output} is not yours to write to; -o FOLDER says where\n")
        return sum(not run.completed for run in runs)
    if (output / "plots").is_symlink():
        raise OutputError(f"{output / 'plots'}: a link to somewhere else; -o FOLDER says where")
    _write(output / "results.csv", to_csv(runs))
    _write(output / "results.md", text)
    if table := first_table(rankings, output):
        for form in ("csv", "tex"):
            _write(output / f"table.{form}", render(table, form))
        draw(rankings, output)
        logdir = shlex.quote(str(output))
        _print(
            f"\ntable        {output / 'results.md'}, and each run in results.csv\n"
            f"pictures     {output / 'plots'}\n"
            f"tensorboard --logdir {logdir} --samples_per_plugin images=1000\n"
        )
    return sum(not run.completed for run in runs)


def _shown(text: str) -> str:
    """Lines without what a terminal would obey, wherever in a stranger's folder that came from."""
    return "\n".join(map(printable, text.replace("\r\n", "\n").split("\n")))


def _write(path: Path, text: str) -> None:
    write_whole(path, _shown(text).encode())


def _print(text: str) -> None:
    try:
        print(_shown(text), end="", flush=True)
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
    figures = [*overview(order(rankings), shared(rankings))]
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
    """Python -m flowlab report FOLDER ... [-o FOLDER], or of two runs: report A B."""
    with one_line_errors():
        parser = Parser("report", HELP)
        parser.add_argument("folders", metavar="FOLDER", nargs="+", help="or latest")
        parser.add_argument("-o", dest="output", metavar="FOLDER", type=Path)
        args = parser.parse_args(words)
        folders, output = [run_at(folder) for folder in args.folders], args.output
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder; expected folders that hold runs")
        if len(folders) == 2 and all(map(is_run, folders)) and output is None:
            _print(against(folders))
            return
        try:
            if output is not None:
                output.mkdir(parents=True, exist_ok=True)
            report(folders, output or folders[0])
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{output or folders[0]}: cannot be written to ({error})") from error
