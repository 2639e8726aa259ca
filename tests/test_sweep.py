"""Sweeps from the command line: checked before they start, gone on with, and reported on."""

import csv
import json
import math
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import NO_PICTURES, ROOT, SHORT, Run
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from scipy import stats
from test_command_line import run
from test_faults import Commands, commands, end  # noqa: F401

from flowlab.commands.report import report
from flowlab.commands.sweep import _cells, _check_values, cell_name
from flowlab.errors import ConfigError

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
QUICK = (*SHORT, *NO_PICTURES)
GRID = ("-m", "num_flows=2,3", "num_hidden=4,5", "seed=0,1", *QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of all cells, but not what is written about the sweep as a whole."""
    files = [path for path in folder.glob("*/**/*") if path.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.parent.name != "plots"}


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


on_one_worker = pytest.mark.xdist_group("sweep")  # that shares it


@pytest.fixture(scope="module")
def sweep(train_command: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A grid of four cells with two seeds each, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep")
    result = run(train_command, *GRID, "hydra.sweep.dir=grid", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "grid", result.stdout


@on_one_worker
def test_a_grid_ends_in_a_table_and_pictures(sweep: tuple[Path, str]) -> None:
    folder, output = sweep
    rows = results(folder)
    assert len(rows) == 8
    for row in rows:
        metrics = json.loads((folder.parent / row["directory"] / "metrics.json").read_text())
        assert float(row["test/kl"]) == metrics["test/kl"]
        assert row["status"] == "completed"
        assert {row["num_flows"], row["num_hidden"]} <= {"2", "3", "4", "5"}
    table = (folder / "results.md").read_text()
    assert table in output
    *_, files, pictures, tensorboard = output.splitlines()
    assert (files.split()[1], pictures.split()[1]) == ("grid/results.md,", "grid/plots")
    assert tensorboard == "tensorboard --logdir grid --samples_per_plugin images=1000"
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    means = [float(line[5].split("±")[0]) for line in lines[2:]]  # of val/nll
    assert means == sorted(means)
    first = [
        row
        for row in rows
        if (row["num_flows"], row["num_hidden"]) == (lines[2][2].strip(), lines[2][3].strip())
    ]
    for column, measure in ((5, "val/nll"), (6, "test/kl"), (7, "test/nll")):
        values = [float(row[measure]) for row in first]
        mean, error = map(float, lines[2][column].split("±"))
        assert mean == pytest.approx(sum(values) / 2, abs=1e-4)
        assert error == pytest.approx(stats.sem(values), abs=1e-4)
    names = {path.stem for path in (folder / "plots").iterdir()}
    assert names == {"heatmap-num_flows-num_hidden", "pareto", "densities"}
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


@pytest.mark.long
@on_one_worker
def test_the_same_command_again_touches_nothing_that_is_finished(
    sweep: tuple[Path, str], train_command: list[str]
) -> None:
    folder, _ = sweep
    before, table = contents(folder), (folder / "results.md").read_text()
    result = run(train_command, *GRID, f"hydra.sweep.dir={folder}", cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished, 4 epochs; nothing to do") == 8
    after = contents(folder)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {Path(name).parts[1] for name in changed} <= {".hydra", "train.log"}
    assert (folder / "results.md").read_text() == table


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("num_flows=2,0,4", "num_flows=0: expected a whole number from 1 to"),
        ("data.target=bimodal,nosuch", "data.target=nosuch: no such; available: "),
    ],
)
def test_one_bad_cell_and_nothing_runs(
    axis: str, message: str, train_command: list[str], tmp_path: Path
) -> None:
    result = run(train_command, "-m", axis, *QUICK, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert message in line
    assert f" (in the cell {axis.partition('=')[0]}=" in line
    assert not list(tmp_path.iterdir())


def test_failing_cells_are_listed_and_the_others_go_on(
    train_command: list[str], tmp_path: Path
) -> None:
    words = ("-m", "optimizer.lr=1e-3,1e15,1e16", "flow.bound=100", *QUICK, "hydra.sweep.dir=s")
    result = run(train_command, *words, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: 2 of the runs in s failed")
    statuses = [row["status"] for row in results(tmp_path / "s")]
    assert sorted(statuses) == ["completed", "failed", "failed"]
    table = (tmp_path / "s" / "results.md").read_text()
    assert table.count("is not finite, and first") == 2


@pytest.mark.long
def test_a_killed_sweep_goes_on_to_the_same_results(
    sweep: tuple[Path, str],
    commands: Commands,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder, _ = sweep
    process = commands.start(*GRID, "hydra.sweep.dir=grid")
    deadline = time.monotonic() + 150
    while len(list(tmp_path.glob("grid/*/metrics.json"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.read_bytes() for path in tmp_path.glob("grid/*/metrics.json")}
    status, _, errors = commands.finish(*GRID, "hydra.sweep.dir=grid")
    assert status == 0, errors
    assert all(path.read_bytes() == content for path, content in finished.items())
    for mine, whole in zip(results(tmp_path / "grid"), results(folder), strict=True):
        for row in (mine, whole):
            del row["seconds"], row["directory"]
        assert mine == whole


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher",
    [("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), ("hydra/launcher=submitit_local",)],
)
def test_cells_run_side_by_side_give_the_same_results(
    launcher: tuple[str, ...], sweep: tuple[Path, str], train_command: list[str], tmp_path: Path
) -> None:
    words = (
        "-m",
        "num_flows=2",
        "num_hidden=4,5",
        "seed=0",
        *QUICK,
        "hydra.sweep.dir=s",
        *launcher,
    )
    result = run(train_command, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    mine = {row["num_hidden"]: row["sha256"] for row in results(tmp_path / "s")}
    serial = {
        row["num_hidden"]: row["sha256"]
        for row in results(sweep[0])
        if (row["num_flows"], row["seed"]) == ("2", "0")
    }
    assert mine == serial
    assert len(mine) == 2


@pytest.mark.long
def test_a_preempted_job_is_queued_again_and_goes_on(
    commands: Commands,  # noqa: F811
    tmp_path: Path,
) -> None:
    """By the signal that Slurm sends; submitit's local jobs take the way of its Slurm jobs."""
    words = ("-m", "num_flows=2,3", *QUICK, "trainer.max_epochs=400", "hydra.sweep.dir=s")
    process = commands.start(*words, "hydra/launcher=submitit_local")
    deadline = time.monotonic() + 150
    while len(list(tmp_path.glob("s/*/checkpoints/last.ckpt"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    jobs = subprocess.check_output(["pgrep", "-f", f"submitit.core._submit {tmp_path}"])
    for signum in (signal.SIGTERM, signal.SIGUSR2):
        for job in jobs.split():
            os.kill(int(job), signum)
        time.sleep(0.2)
    status, _, errors = end(process)
    assert status == 0, errors
    logs = "".join(path.read_text() for path in tmp_path.glob("s/*/train.log"))
    assert logs.count("going on from") == 2
    assert commands.finish(*words[:-1], "hydra.sweep.dir=whole")[0] == 0
    cut, whole = results(tmp_path / "s"), results(tmp_path / "whole")
    assert [row["sha256"] for row in cut] == [row["sha256"] for row in whole]


SEARCH = ("sweep=search", *QUICK, "hydra.sweep.dir=s", "hydra.sweeper.n_trials=6")


def trials(folder: Path) -> list[tuple[str, float | None]]:
    """State and value of each trial in a study, read past Optuna."""
    with closing(sqlite3.connect(folder / "study.db")) as study:
        query = "SELECT state, value FROM trials LEFT JOIN trial_values USING (trial_id)"
        return list(study.execute(query))


@pytest.mark.long
def test_a_killed_search_goes_on_with_the_trials_that_are_missing(
    commands: Commands,  # noqa: F811
    tmp_path: Path,
) -> None:
    process = commands.start(*SEARCH)
    deadline = time.monotonic() + 150
    while len(finished := list(tmp_path.glob("s/*/metrics.json"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = {path: path.read_bytes() for path in finished}
    status, _, errors = commands.finish(*SEARCH)
    assert status == 0, errors
    rows = results(tmp_path / "s")
    assert [row["status"] for row in rows] == ["completed"] * 6
    assert all(path.read_bytes() == content for path, content in before.items())
    assert sorted(trials(tmp_path / "s")) == sorted(
        ("COMPLETE", float(row["val/nll"])) for row in rows
    )
    assert (tmp_path / "s" / "plots" / "axes.png").exists()
    best = min(rows, key=lambda row: float(row["val/nll"]))
    told = OmegaConf.load(tmp_path / "s" / "optimization_results.yaml").best_params
    assert {key: str(value) for key, value in told.items()} == {key: best[key] for key in told}
    table = (tmp_path / "s" / "results.md").read_text()
    (line,) = [line for line in table.splitlines() if line.startswith("| best")]
    assert best["num_flows"] in [word.strip() for word in line.split("|")]
    status, output, errors = commands.finish(*SEARCH)
    assert status == 0, errors
    assert len(trials(tmp_path / "s")) == 6
    assert output.count("#0 :") == 0


@pytest.mark.long
def test_a_failed_trial_does_not_end_a_search(train_command: list[str], tmp_path: Path) -> None:
    words = ("-m", "hydra/sweeper=optuna", "optimizer.lr=choice(1e-3,1e15)", "num_flows=2,3,4")
    words += ("hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.seed=0", "flow.bound=100")
    result = run(train_command, *words, *QUICK, "hydra.sweep.dir=s", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "of the runs in s failed" in result.stderr
    values = [value for _, value in trials(tmp_path / "s")]
    assert len(values) == 6
    assert 0 < values.count(math.inf) < 6
    assert "optimizer.lr: 0.001" in (tmp_path / "s" / "optimization_results.yaml").read_text()


@pytest.mark.long
def test_a_sweep_is_one_commands_at_a_time(
    commands: Commands,  # noqa: F811
    tmp_path: Path,
) -> None:
    words = ("-m", "seed=0,1", *QUICK, "hydra.sweep.dir=s")
    first = commands.start(*words, "trainer.max_epochs=100000")
    deadline = time.monotonic() + 150
    while not list(tmp_path.glob("s/*/train.log")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status, _, errors = commands.finish(*words)
    assert status == 6
    assert "another run is writing there" in errors
    assert first.poll() is None


def of_sweep(sweeper: str, *words: str) -> DictConfig:
    """What of a configuration says which cells there are."""
    hydra = {"sweeper": {"_target_": sweeper}, "overrides": {"task": list(words)}}
    return OmegaConf.create({"hydra": hydra})


def test_a_search_is_checked_at_each_of_its_choices() -> None:
    """In as many cells as the longest axis has values, not in all combinations."""
    words = ("a=choice(1,2,3)", "b=choice(4,5)", "c=interval(0.0,1.0)", "d=int(range(1,9))", "e=6")
    cells = [set(cell) for cell in _cells(of_sweep("optuna.Sweeper", *words))]
    assert len(cells) == 3
    assert cells[0] == {"a=1", "b=4", "c=0.0", "d=1", "e=6"}
    assert cells[-1] == {"a=3", "b=5", "c=1.0", "d=8", "e=6"}
    assert set.union(*cells) >= {"a=1", "a=2", "a=3", "b=4", "b=5"}


@pytest.mark.parametrize("axis", ["num_flows=2,3,2", "num_flows=choice(2,3,2)"])
def test_a_value_that_is_there_twice_is_named(axis: str) -> None:
    with pytest.raises(ConfigError, match=r"^num_flows=2,3,2: has 2 more than once; seed=0,1 or "):
        _check_values(of_sweep(BASIC, axis, "num_hidden=2,3"))
    _check_values(of_sweep(BASIC, "num_flows=2,3", "num_hidden=2,3", "seed=range(0,2)"))


def test_a_search_is_checked_at_its_corners(train_command: list[str], tmp_path: Path) -> None:
    words = ("sweep=search", "num_flows=int(interval(0,4))", "hydra.sweep.dir=s")
    words += ("+optimizer.weight_decay=interval(0.0,0.1)", "data.batch_size=range(1,1000)")
    result = run(train_command, *words, cwd=tmp_path)
    assert result.returncode == 2
    assert "num_flows=0: expected a whole number from 1 to 10000 (in the cell " in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_run_of_several_processes_is_no_cell(train_command: list[str], tmp_path: Path) -> None:
    result = run(train_command, "-m", "seed=0,1", "trainer=ddp", cwd=tmp_path)
    assert result.returncode == 2
    assert "trainer.devices=2: a cell of a sweep is one process; run it without -m" in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_preset_switches_to_multirun_by_itself(
    train_command: list[str], tmp_path: Path
) -> None:
    few = ("hydra.sweeper.params.num_flows=2", "hydra.sweeper.params.num_hidden='4,8'")
    few += ("hydra.sweeper.params.seed=0", "hydra.sweep.dir=s")
    result = run(train_command, "sweep=depth_width", *few, *QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [row["num_hidden"] for row in results(tmp_path / "s")] == ["4", "8"]
    assert {path.stem for path in (tmp_path / "s" / "plots").iterdir()} == {
        *("curve", "pareto", "densities"),
    }


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "submitit_slurm"])
@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "conf/sweep").iterdir()))
@pytest.mark.usefixtures("compose_config")
def test_each_preset_goes_with_each_launcher(preset: str, launcher: str) -> None:
    words = [f"sweep={preset}", f"hydra/launcher={launcher}"]
    cfg = compose("train", words, return_hydra_config=True)
    assert cfg.hydra.runtime.choices["hydra/launcher"] == launcher


def test_names_of_cells_are_readable_and_their_own() -> None:
    assert cell_name(["num_flows=2", "seed=0"]) == "num_flows=2,seed=0"
    words = ["num_flows=2", "num_hidden=32", "optimizer.lr=0.001", "schedule=cosine", "seed=0"]
    assert cell_name(words) == ",".join(words)  # whole: a person reads it
    odd = ["a=x/y", "a=x_y", "a=[1,2]", "a=../../x", "a=" + 300 * "x", "a=" + 301 * "x", ".a=1"]
    names = {cell_name([word]) for word in odd}
    assert len(names) == len(odd)
    for name in names:
        assert len(name) < 120
        assert "/" not in name
        assert not name.startswith(".")


@on_one_worker
def test_the_report_says_what_it_left_out(
    sweep: tuple[Path, str], short_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = sweep
    cells = sorted(path.parent for path in folder.glob("*/.hydra"))
    for i, cell in enumerate(cells):
        subprocess.run(["cp", "-r", str(cell), str(tmp_path / f"run{i}")], check=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "run0" / "metrics.json").unlink()
    (tmp_path / "run1" / "metrics.json").write_text("{")
    (tmp_path / "run2" / "metrics.json").write_text('{"status": "completed"}')
    (tmp_path / "run3" / ".hydra" / "config.yaml").write_text("a: [")
    (tmp_path / "run4" / "flow.safetensors").write_bytes(b"junk")
    assert report([tmp_path], tmp_path) == 1
    output = capsys.readouterr().out
    assert "| run0   | missing | no metrics.json: it did not end |" in output
    for name in ("run1", "run2", "run3", "run4"):
        assert f"left out: {tmp_path / name}: " in output
    assert len(results(tmp_path)) == 4


@on_one_worker
def test_a_report_on_a_single_run_leaves_its_files_alone(
    sweep: tuple[Path, str], tmp_path: Path
) -> None:
    cell = next(path.parent for path in sweep[0].glob("*/.hydra"))
    subprocess.run(["cp", "-r", str(cell), str(tmp_path / "run")], check=True)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    for _ in range(2):
        assert report([tmp_path / "run"], tmp_path / "run") == 0
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs there"):
        report([tmp_path], tmp_path)


def test_a_folder_of_other_things_is_no_sweeps(train_command: list[str], tmp_path: Path) -> None:
    (tmp_path / "home" / "films").mkdir(parents=True)
    result = run(train_command, *GRID, "hydra.sweep.dir=home", cwd=tmp_path)
    assert result.returncode == 6
    assert "home: holds films; a sweep needs an absent or an empty folder" in result.stderr
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["films"]
