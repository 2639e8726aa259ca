"""One run over several processes is the same run."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import NO_PICTURES, Compose, events

from flowlab import load
from flowlab.experiment import train

# three chunks in an epoch, the last of which has one point, so that a process has none of it
ODD = ("data.num_train=4097", "data.num_val=101", "data.num_test=501", "trainer.max_epochs=4")
DDP = ("trainer=ddp", "trainer.devices=2")


class Terminate(pl.Callback):
    """SIGTERM within the third epoch, to the first process alone."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if module.step == 2 * 33:
            os.kill(os.getpid(), signal.SIGTERM)


def curve(folder: Path, tag: str) -> list[float]:
    return [event.value for event in events(folder).Scalars(tag)]


def test_two_processes_give_the_curves_of_one_and_go_on(
    compose_config: Compose, tmp_path: Path
) -> None:
    def run(name: str, *words: str) -> dict[str, Any]:
        words += (*ODD, *NO_PICTURES, f"run_dir={tmp_path / name}", "data.batch_size=128")
        return train(compose_config(*words))

    one, two = run("one"), run("two", *DDP)
    for tag in ("train/nll", "val/nll"):
        assert curve(tmp_path / "two", tag) == pytest.approx(curve(tmp_path / "one", tag), abs=2e-5)
    for key in ("train/nll", "val/nll", "test/nll", "test/entropy", "test/kl"):
        assert two[key] == pytest.approx(one[key], abs=2e-5)
    weights = [load(tmp_path / name).state_dict() for name in ("one", "two")]
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-3)

    terminate = "+callbacks.terminate={_target_: test_distributed.Terminate}"
    with pytest.raises(SystemExit) as stop:
        run("cut", *DDP, terminate)
    assert stop.value.code == 143
    resumed = run("cut", *DDP, f"ckpt_path={tmp_path / 'cut'}")
    assert resumed["sha256"] == two["sha256"]
    assert curve(tmp_path / "cut", "train/nll") == curve(tmp_path / "two", "train/nll")
    assert {path.name for path in (tmp_path / "cut").glob("*")} == {
        *("metrics.json", "flow.safetensors", "checkpoints"),
        *(path.name for path in (tmp_path / "cut").glob("events.*")),
    }
