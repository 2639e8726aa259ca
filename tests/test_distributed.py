"""One run over several processes is the same run, whoever starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import NO_PICTURES, Compose, events

from flowlab import load, processes
from flowlab.errors import ConfigError
from flowlab.experiment import train

# three chunks in an epoch, the last of which has one point, so that a process has none of it
ODD = (
    *("data.num_train=4097", "data.num_val=101", "data.num_test=501", "data.batch_size=128"),
    *("trainer.max_epochs=4", *NO_PICTURES),
)
ENDLESS = ("trainer.max_epochs=100000", "data.num_train=200", *NO_PICTURES, "hydra.run.dir=run")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--log-dir", os.devnull]
TWO = [*TORCHRUN, "--standalone", "--nproc-per-node", "2"]

Process = subprocess.Popen[str]


class Terminate(pl.Callback):
    """SIGTERM within the third epoch, to the second process alone."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if module.step == 2 * 33:
            os.kill(pids(Path.cwd())[1], signal.SIGTERM)


class Commands:
    """Starts commands in a folder; what still runs there at the end is killed."""

    def __init__(self, train_command: list[str], cwd: Path):
        self.script, self.cwd = train_command[1:], cwd
        self.started: list[Process] = []

    def start(self, *words: str, by: list[str] | None = None, **env: str) -> Process:
        command = [*(by or [sys.executable]), *self.script, *words]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | env
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=self.cwd, env=env, stdout=pipe, stderr=pipe, text=True
        )
        self.started.append(process)
        return process


@pytest.fixture
def commands(train_command: list[str], tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(train_command, tmp_path)
    yield commands
    strays = of_run(tmp_path)
    for process in commands.started:
        process.kill()
        process.communicate()
    for pid in strays:
        os.kill(pid, signal.SIGKILL)
    assert not strays


def of_run(cwd: Path) -> dict[int, Path]:
    """The /proc entries of all processes that work in a folder, by their ids."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").readlink() == cwd and int(path.name) != os.getpid():
                found[int(path.name)] = path
        except OSError:
            continue
    return found


def pids(cwd: Path) -> dict[int, int]:
    """The ids of a run's processes, by their rank; those that draw left out."""
    ranks = {}
    for pid, path in of_run(cwd).items() | {os.getpid(): Path("/proc/self")}.items():
        env = dict(word.partition("=")[::2] for word in (path / "environ").read_text().split("\0"))
        if "RANK" in env and "train.py" in (path / "cmdline").read_text():
            ranks[int(env["RANK"])] = pid
    return ranks


def listening(cwd: Path) -> set[str]:
    """The addresses, as hexadecimal numbers, at which a run's processes listen."""
    sockets = {
        str(file.readlink())
        for path in of_run(cwd).values()
        for file in (path / "fd").iterdir()
        if file.is_symlink()
    }
    tables = (Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6"))
    rows = (line.split() for table in tables for line in table)
    return {r[1].partition(":")[0] for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in sockets}


def end(process: Process, status: int, timeout: float = 300) -> tuple[str, str]:
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == status, errors
    return output, errors


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def metrics_of(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes())
    return metrics


def curve(folder: Path, tag: str) -> list[float]:
    return [event.value for event in events(folder).Scalars(tag)]


@pytest.mark.long
def test_two_processes_give_the_curves_of_one_and_go_on(
    commands: Commands, compose_config: Compose, tmp_path: Path
) -> None:
    """Two agents as two machines; torchrun, whose run is cut; and the command itself goes on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    meet = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    node = [*TORCHRUN, *meet, "--local-addr", "127.0.0.1"]
    words = ("trainer=ddp", *ODD)
    nodes = [commands.start(*words, by=node, GLOO_SOCKET_IFNAME="lo") for _ in range(2)]
    one = train(compose_config(*ODD, f"run_dir={tmp_path / 'one'}"))
    said = [end(process, 0) for process in nodes]
    assert sorted(output.count("test NLL") for output, _ in said) == [0, 1]
    (folder,) = tmp_path.glob("outputs/*/*")  # by the clock: of each process, if it had one
    two = metrics_of(folder)
    for tag in ("train/nll", "val/nll"):
        assert curve(folder, tag) == pytest.approx(curve(tmp_path / "one", tag), abs=2e-5)
    for key in ("train/nll", "val/nll", "test/nll", "test/entropy", "test/kl"):
        assert two[key] == pytest.approx(one[key], abs=2e-5)
    weights = [load(path).state_dict() for path in (tmp_path / "one", folder)]
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-3)

    terminate = "+callbacks.terminate={_target_: test_distributed.Terminate}"
    cut = commands.start("trainer=ddp", *ODD, "hydra.run.dir=cut", terminate, by=TWO)
    output, errors = cut.communicate(timeout=300)
    assert output.count("interrupted; to go on, add ckpt_path=cut to the same command") == 1
    assert "exitcode  : 143" in errors
    assert metrics_of(tmp_path / "cut")["status"] == "interrupted"
    end(commands.start("trainer=ddp", *ODD, "hydra.run.dir=cut", "ckpt_path=cut"), 0)
    assert metrics_of(tmp_path / "cut")["sha256"] == two["sha256"]
    assert curve(tmp_path / "cut", "train/nll") == curve(folder, "train/nll")

    assert {path.name for path in tmp_path.iterdir()} == {"one", "outputs", "cut"}
    assert {path.name for path in folder.iterdir()} == {
        *("metrics.json", "flow.safetensors", "checkpoints", "train.log", ".hydra"),
        "test_log_prob.npy",
        *(path.name for path in folder.glob("events.*")),
    }


@pytest.mark.long
def test_a_lost_process_ends_the_run(commands: Commands, tmp_path: Path) -> None:
    process = commands.start("trainer=ddp", *ENDLESS)
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert listening(tmp_path) == {"0100007F"}  # 127.0.0.1
    os.kill(pids(tmp_path)[1], signal.SIGKILL)
    output, errors = end(process, 1, timeout=10)
    assert output == ""
    assert errors.startswith("error: another process of this run was lost")
    assert errors.count("\n") == 1
    assert metrics_of(tmp_path / "run")["status"] == "failed"


@pytest.mark.long
def test_a_signal_to_the_command_stops_all_its_processes(
    commands: Commands, tmp_path: Path
) -> None:
    process = commands.start("trainer=ddp", *ENDLESS)
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    process.send_signal(signal.SIGINT)
    output, errors = end(process, 130, timeout=20)
    assert output == "interrupted; to go on, add ckpt_path=run to the same command\n"
    assert errors == ""
    assert metrics_of(tmp_path / "run")["status"] == "interrupted"


def test_a_mistake_is_told_once(commands: Commands, tmp_path: Path) -> None:
    output, errors = commands.start("seed=-1", "trainer=ddp", by=TWO).communicate(timeout=300)
    assert output == ""
    assert [line for line in errors.splitlines() if line.startswith(("error", "process"))] == [
        "error: seed=-1: expected a whole number from 0 to 2^53"
    ]
    assert "exitcode  : 2" in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rank", "last", "said"),
    [
        ("1", "sys.exit(6)", "process 1: wrong\n"),  # nobody has ended it, so it alone knows
        ("1", "sys.exit(143)", ""),
        ("1", "pass", ""),
        ("1", "signal.signal(15, signal.SIG_IGN); ended_soon.start(); sys.exit(6)", ""),
        ("0", "sys.exit(6)", "wrong\n"),
    ],
)
def test_all_but_the_first_are_silent(rank: str, last: str, said: str) -> None:
    script = f"""
import os, signal, sys, threading
from flowlab import processes
processes.PATIENCE = 1
ended_soon = threading.Timer(0.2, os.kill, (os.getpid(), 15))
with processes.taking_part():
    print("wrong", file=sys.stderr)
    os.write(1, b"out" * {rank})
    {last}
"""
    env = os.environ | ELASTIC | {"RANK": rank}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert (run.stdout, run.stderr) == ("", said)


SLURM = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}
ELASTIC = {"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
ELASTIC |= {"GROUP_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        (SLURM, None),  # a job's script, or an allocation's shell: no srun
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),  # submitit
        (SLURM | STEP, (3, 2, 2)),
        (ELASTIC, (2, 2, 2)),
        (SLURM | STEP | ELASTIC, (2, 2, 2)),  # srun that starts a torchrun on each machine
    ],
)
def test_who_has_started_a_process_gives_it_its_place(
    env: dict[str, str], expected: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert processes.place() == expected
    name = type(processes.environment()).__name__
    if expected is None:
        assert name == "LightningEnvironment"
        assert processes.words() == []
    else:
        assert name == ("TorchElasticEnvironment" if "RANK" in env else "SLURMEnvironment")
        assert processes.words()[:2] == ["trainer.devices=2", "trainer.num_nodes=2"]


def test_unequal_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (ELASTIC | {"WORLD_SIZE": "3"}).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match="3 processes on 2 machines: expected equally many"):
        processes.place()


@pytest.mark.parametrize("key", ["devices", "num_nodes"])
def test_python_starts_no_processes(key: str, compose_config: Compose, tmp_path: Path) -> None:
    cfg = compose_config("trainer=ddp", "trainer.devices=1", f"trainer.{key}=2", "run_dir=x")
    with pytest.raises(ConfigError, match=f"trainer.{key}=2: this run was started with 1; start"):
        train(cfg)
    assert not list(tmp_path.iterdir())
