"""`python train.py` as a person types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SHORT, Compose, Run

from flowlab.config import validate

CHOICES = [
    f"{folder.name}={path.stem}"
    for folder in sorted((ROOT / "conf").iterdir())
    if folder.is_dir()
    for path in sorted(folder.glob("*.yaml"))
]


def run(command: list[str], *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *words],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_and_makes_sense(choice: str, compose_config: Compose) -> None:
    cfg = compose_config(choice)
    if choice != "trainer=gpu":
        validate(cfg)


WHOLE = "expected a whole number of at least"

MISTAKES = {
    "num_flows=0": f"num_flows=0: {WHOLE} 1",
    "num_flows=-1": f"num_flows=-1: {WHOLE} 1",
    "num_flows=abc": f"num_flows=abc: {WHOLE} 1",
    "num_flows=2.5": f"num_flows=2.5: {WHOLE} 1",
    "num_flows=true": f"num_flows=True: {WHOLE} 1",
    "num_flows=null": f"num_flows=null: {WHOLE} 1",
    "num_flow=8": "num_flow: no such key; did you mean num_flows?",
    "lr=0.1": "lr: no such key; did you mean optimizer.lr?",
    "num_hidden=0": f"num_hidden=0: {WHOLE} 1",
    "data=nosuch": "data=nosuch: no such choice; available: bimodal",
    "data.batch_size=0": f"data.batch_size=0: {WHOLE} 1",
    "data.num_train=0": f"data.num_train=0: {WHOLE} 1",
    "optimizer.lr=-1": "optimizer.lr=-1: expected a positive number",
    "optimizer.lr=nan": "optimizer.lr=nan: expected a positive number",
    "trainer.max_epochs=-5": f"trainer.max_epochs=-5: {WHOLE} 1",
    "trainer.devices=2": "trainer.devices=2: add trainer=ddp",
    "+trainer.accumulate_grad_batches=2": "accumulate_grad_batches=2: expected 1 (raise data.batch",
    "+trainer.check_val_every_n_epoch=2": "check_val_every_n_epoch=2: expected 1 (the best epoch",
    "seed=-1": f"seed=-1: {WHOLE} 0",
    "ckpt_path=nosuch": "ckpt_path=nosuch: no such file; expected a run directory or a .ckpt",
    "ckpt_path=https://x.org/last.ckpt": "ckpt_path=https://x.org/last.ckpt: no such file",
    "ckpt_path=.": "ckpt_path=.: no such file; expected a run directory or a .ckpt",
    "callbacks.density.every_n_epochs=0": f"every_n_epochs=0: {WHOLE} 1",
    "~optimizer": "optimizer: missing",
    "~trainer.max_epochs": "trainer.max_epochs: missing",
    "+trainer.max_steps=10": "trainer.max_steps=10: expected -1 (a run counts epochs",
    "num_threads=99999": "num_threads=99999: expected a whole number from 1 to 1024",
    "+optimizer.foo=1": "optimizer.foo: no such key; available: params, lr, betas",
    "+trainer.foo=1": "trainer.foo: no such key; available: ",
    "+data.foo=1": "data.foo: no such key; available: target, num_train",
    "+flow.foo=1": "flow: flow 'coupling' has no option foo; available: num_flows",
    "callbacks.density._target_=nosuch": "callbacks.density._target_=nosuch: ",
    "data.target=nosuch": "data.target=nosuch: no such; available: bimodal",
    "+trainer.precision=64-true": "trainer.precision=64-true: expected 32 or 32-true",
    "~callbacks.sample": "callbacks.sample: no such key; did you mean callbacks.samples",
    "data.num_train=${nosuch}": "Interpolation key 'nosuch' not found",
    "hydra/launcher=nosuch": 'hydra/launcher=nosuch: not installed; try pip install -e ".[sweep]"',
    "fast": "fast: expected key=value or group=choice",
}


@pytest.mark.parametrize("word", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(
    word: str, train_command: list[str], tmp_path: Path
) -> None:
    result = run(train_command, word, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert MISTAKES[word] in line
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_gets_one_line(train_command: list[str], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"PK\x03\x04 nothing")
    result = run(train_command, f"ckpt_path={damaged}", cwd=tmp_path)
    assert result.returncode == 4
    assert "damaged, or no checkpoint of flowlab" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_missing_gpu_gets_one_line(train_command: list[str], tmp_path: Path) -> None:
    result = run(train_command, "trainer.accelerator=gpu", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "this machine has no usable GPU; use cpu" in result.stderr
    assert not list(tmp_path.iterdir())


def test_hydra_full_error_gives_the_traceback(train_command: list[str], tmp_path: Path) -> None:
    result = run(train_command, "num_flows=0", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "ConfigError: num_flows=0" in result.stderr


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"]])
def test_looking_costs_no_heavy_imports(
    flag: list[str], train_command: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-X", "importtime", *train_command[1:]]
    result = run(command, *flag, cwd=tmp_path)
    assert result.returncode == 0
    assert "num_flows: 4" in result.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "matplotlib"}
    assert not list(tmp_path.iterdir())


def test_a_real_run_is_the_run_in_process(
    train_command: list[str], short_run: Run, tmp_path: Path
) -> None:
    result = run(train_command, *SHORT, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (folder,) = (tmp_path / "outputs").glob("*/*")
    names = {path.name.split(".tfevents")[0] for path in folder.iterdir()}
    expected = {".hydra", "metrics.json", "flow.safetensors", "checkpoints", "plots"}
    assert names == expected | {"events.out", "train.log"}
    weights = (folder / "flow.safetensors").read_bytes()
    assert weights == (short_run.folder / "flow.safetensors").read_bytes()
    kl = f"{short_run.metrics['test/kl']:.4f} nats"
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("KL")] == [["KL", *kl.split()]]
    logdir = folder.parent.relative_to(tmp_path)
    assert lines[-1] == f"tensorboard --logdir {logdir} --samples_per_plugin images=1000"
    assert kl in (folder / "train.log").read_text()


def test_a_multirun_makes_a_run_for_each_value(train_command: list[str], tmp_path: Path) -> None:
    words = ["-m", "num_flows=2,3", *SHORT, "trainer.max_epochs=1"]
    result = run(train_command, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "multirun").glob("*/*/*/metrics.json"))) == 2
