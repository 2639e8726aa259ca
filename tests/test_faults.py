"""Real processes and real faults: signals, full disks, vanished folders, numbers that run away."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from flowlab import load
from flowlab.commands.sweep import check_sweep
from flowlab.errors import ConfigError
from flowlab.runs.checkpoints import read_checkpoint

QUICK = (*SHORT, *NO_PICTURES)
LONG = ("trainer.max_epochs=100000", "data.num_train=200", "data.num_val=100", *NO_PICTURES)

Process = subprocess.Popen[str]


class Commands:
    """Starts `python train.py` in one folder; what still runs at the end is killed."""

    def __init__(self, command: list[str], cwd: Path):
        self.command, self.cwd = command, cwd
        self.processes: list[Process] = []

    def start(self, *words: str, **env: str) -> Process:
        process = subprocess.Popen(
            [*self.command, *words],
            cwd=self.cwd,
            env=os.environ | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def finish(self, *words: str, **env: str) -> tuple[int, str, str]:
        return end(self.start(*words, **env))


def end(process: Process) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


@pytest.fixture
def commands(train_command: list[str], tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(train_command, tmp_path)
    yield commands
    for process in commands.processes:
        process.kill()
        process.communicate()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 150
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def metrics_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


@pytest.mark.long
def test_runs_cut_by_signals_at_random_moments_go_on_to_the_same_end() -> None:
    script = Path(__file__).parent / "benchmarks" / "kill_runs.py"
    run = subprocess.run([sys.executable, str(script), "2"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "6 signals, 0 of 2 runs ended differently" in run.stdout


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_saves_and_says_so(
    signum: signal.Signals, code: int, commands: Commands, tmp_path: Path
) -> None:
    process = commands.start(*LONG, "hydra.run.dir=run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    os.killpg(process.pid, signum)  # as a terminal does: the process that draws gets it too
    status, output, errors = end(process)
    assert status == code
    assert "interrupted; to go on, add ckpt_path=run to the same command" in output
    assert "Traceback" not in errors
    metrics = metrics_of(tmp_path / "run")
    assert metrics["status"] == "interrupted"
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert (
        checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        == (metrics["epochs"])
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_training_is_as_honest(
    signum: signal.Signals, code: int, commands: Commands, tmp_path: Path
) -> None:
    process = commands.start(*LONG, "hydra.run.dir=run")
    wait_for(tmp_path / "run" / ".hydra" / "overrides.yaml")
    process.send_signal(signum)
    status, _, errors = end(process)
    assert status == code
    assert "Traceback" not in errors


@pytest.mark.long
def test_a_second_signal_does_not_wait_for_the_batch(commands: Commands, tmp_path: Path) -> None:
    """The steps of this flow take many seconds."""
    words = ("num_flows=64", "num_hidden=256", "data.num_train=40000", "data.batch_size=40000")
    but_one = [word for word in NO_PICTURES if "loss" not in word]
    process = commands.start(*words, "hydra.run.dir=run", *but_one)
    wait_for(tmp_path / "run" / "plots")  # when the training starts
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=2) == 143


@pytest.mark.long
def test_a_sweep_that_is_interrupted_says_how_to_go_on(commands: Commands, tmp_path: Path) -> None:
    words = ("-m", "seed=0,1", *LONG[1:], "trainer.max_epochs=200")
    process = commands.start(*words)
    deadline = time.monotonic() + 150
    while not list(tmp_path.glob("multirun/*/*/seed=0*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    status, output, errors = end(process)
    assert status == 130
    assert "to go on" not in output
    match = re.fullmatch("interrupted; to go on, add (.*) to the same command\n", errors)
    assert match
    assert not list(tmp_path.glob("multirun/*/*/seed=1*"))
    status, output, errors = commands.finish(*words, *shlex.split(match[1]))
    assert status == 0, errors
    assert "going on from" in output
    cells = [path.parent for path in tmp_path.glob("multirun/*/*/seed=*/metrics.json")]
    assert [metrics_of(cell)["status"] for cell in cells] == ["completed"] * 2


def test_a_run_that_leaves_the_finite_numbers_stops_with_finite_weights(
    commands: Commands, tmp_path: Path
) -> None:
    words = (*QUICK, "hydra.run.dir=run", "optimizer.lr=1e15", "flow.bound=100")
    status, _, errors = commands.finish(*words)
    assert status == 5, errors
    (line,) = errors.splitlines()
    assert line.startswith("error: step ")
    assert "is not finite, and first " in line
    assert "Try a lower optimizer.lr" in line
    assert metrics_of(tmp_path / "run")["status"] == "failed"


@pytest.mark.long
def test_a_second_run_in_one_directory_is_refused(commands: Commands, tmp_path: Path) -> None:
    first = commands.start(*LONG, "hydra.run.dir=run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    overrides = (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes()
    for again in ((), ("ckpt_path=run",)):
        status, _, errors = commands.finish("num_flows=4", *LONG, "hydra.run.dir=run", *again)
        assert status == 6
        assert errors == f"error: {tmp_path / 'run'}: another run is writing there; choose " + (
            "another hydra.run.dir\n"
        )
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes() == overrides
    first.kill()
    first.wait()
    status, _, errors = commands.finish(*QUICK, "hydra.run.dir=run")
    assert status == 6
    assert "holds a run already; to go on with it add ckpt_path=" in errors


@pytest.mark.long
def test_a_run_whose_directory_vanishes_ends(commands: Commands, tmp_path: Path) -> None:
    process = commands.start(*LONG, "hydra.run.dir=run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    status, _, errors = end(process)
    assert status == 6
    assert "run: cannot be written to (" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    read_checkpoint(tmp_path / "elsewhere" / "checkpoints" / "last.ckpt")


def mount(*words: str | Path) -> None:
    if shutil.which("mount") is None or subprocess.run(["mount", *words]).returncode:
        pytest.skip("this machine does not let the test mount a disk")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
    yield disk
    while disk.is_mount():
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_up(disk: Path) -> None:
    with suppress(OSError), (disk / "rest").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def make_read_only(disk: Path) -> None:
    mount("--bind", disk, disk)
    mount("-o", "remount,bind,ro", disk)


@pytest.mark.parametrize("spoil", [fill_up, make_read_only])
def test_a_disk_that_takes_no_more_ends_the_run_and_spoils_nothing(
    spoil: Callable[[Path], None], small_disk: Path, commands: Commands
) -> None:
    process = commands.start(*LONG, f"hydra.run.dir={small_disk / 'run'}")
    last = small_disk / "run" / "checkpoints" / "last.ckpt"
    wait_for(last)
    spoil(small_disk)
    status, _, errors = end(process)
    assert status == 6
    assert f"{small_disk / 'run'}: cannot be written to (" in errors
    assert len(errors.splitlines()) == 1
    read_checkpoint(last)


@pytest.mark.long
def test_what_only_looks_on_changes_nothing(commands: Commands, tmp_path: Path) -> None:
    """The last weights, from fresh processes with pictures and progress, and more to validate."""
    off = ("data.num_val=1", "~callbacks.progress", *NO_PICTURES)
    hashes = set()
    for name, words in {"on": (), "off": off}.items():
        assert commands.finish(*SHORT, *words, f"hydra.run.dir={name}")[0] == 0
        weights = read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"]
        hashes.add(b"".join(tensor.numpy().tobytes() for tensor in weights.values()))
    assert len(hashes) == 1


@pytest.mark.long
def test_a_run_repeats_from_its_saved_configuration(commands: Commands, tmp_path: Path) -> None:
    assert commands.finish(*QUICK, "seed=3", "num_flows=5", "hydra.run.dir=first")[0] == 0
    folder = tmp_path / "first" / ".hydra"
    words = (f"--config-path={folder}", "--config-name=config", "ckpt_path=null")
    status, _, errors = commands.finish(*words, "hydra.run.dir=first")
    assert status == 6, errors
    assert "holds a run already" in errors
    words += ("hydra.run.dir=second",)
    status, _, errors = commands.finish(*words)
    assert status == 0, errors
    first, second = metrics_of(tmp_path / "first"), metrics_of(tmp_path / "second")
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert {"torch", "commit", "threads", "cpu"} <= first["environment"].keys()
    assert len(first["sha256"]) == 64


@pytest.mark.parametrize("subdir", ["../../x", "/tmp/x", "${mine}", "${oc.env:UP}", "one", "."])
def test_a_sweep_stays_in_its_directory(
    subdir: str, compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose_config()  # keeps Hydra ready
    monkeypatch.setenv("UP", "../up")
    words = ["seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}", f"hydra.sweep.subdir={subdir}"]
    if subdir == "${mine}":
        words.append("+mine=a/../../../x")
    cfg = GlobalHydra.instance().hydra.compose_config("train", words, RunMode.MULTIRUN)
    with pytest.raises(ConfigError, match=r"expected a folder within hydra\.sweep\.dir"):
        check_sweep(cfg)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "-m: expected keys of its cells, as num_flows=2,4"),
        (["name=a,b"], "name=a: expected one name, of the sweep as a whole"),
        (["seed=0,1", "ckpt_path=latest"], "ckpt_path=latest: in a sweep expected the path"),
    ],
)
def test_what_cells_cannot_have_of_their_own_is_said(
    words: list[str], message: str, compose_config: Compose, tmp_path: Path
) -> None:
    compose_config()  # keeps Hydra ready
    words = [*words, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    cfg = GlobalHydra.instance().hydra.compose_config("train", words, RunMode.MULTIRUN)
    with pytest.raises(ConfigError, match=message):
        check_sweep(cfg)
    assert not list(tmp_path.iterdir())


def test_a_sweep_needs_slurm_for_its_launcher(
    compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose_config()  # keeps Hydra ready
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    words = ["seed=0,1", "hydra/launcher=submitit_slurm", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    cfg = GlobalHydra.instance().hydra.compose_config("train", words, RunMode.MULTIRUN)
    with pytest.raises(ConfigError, match="hydra/launcher=submitit_slurm: this machine has no Slu"):
        check_sweep(cfg)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_what_comes_from_the_environment_stays_there(commands: Commands, tmp_path: Path) -> None:
    secret = "918273645"
    mine = "+mine='${oc.decode:${oc.env:SECRET}}'"
    words = (*QUICK, mine, "data.seed=${mine}", "hydra.run.dir=run")
    assert commands.finish(*words, SECRET=secret)[0] == 0
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_a_damaged_model_file_has_its_own_exit_code(commands: Commands, tmp_path: Path) -> None:
    assert commands.finish(*QUICK, "hydra.run.dir=run")[0] == 0
    status, output, _ = commands.finish(*QUICK, "ckpt_path=run")
    assert (status, output) == (
        0,
        "run: finished, 4 epochs; nothing to do. For more of them raise trainer.max_epochs\n",
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    words = (*QUICK, "trainer.max_epochs=6", "ckpt_path=run")
    status, _, errors = commands.finish(*words)
    assert status == 4
    assert "last.ckpt: damaged" in errors
    assert "best.ckpt is whole" in errors
    load(tmp_path / "run")
    assert torch.load(last.with_name("best.ckpt"), weights_only=True)["epoch"] >= 0
