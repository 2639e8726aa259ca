"""Where a training says it is: a bar on a terminal, a line now and then where there is none."""

import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose

from flowlab.experiment import train


class Clock:
    """Moves on by three seconds whenever it is looked at."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 3
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "flowlab.callbacks.progress"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A chunk of one batch takes three seconds."""
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 32)
    monkeypatch.setattr("flowlab.callbacks.progress.time", Clock())
    caplog.set_level(logging.INFO)


def start(compose_config: Compose, folder: Path, *words: str) -> None:
    words = (*SHORT, *NO_PICTURES, "data.batch_size=32", *words)
    train(compose_config(*words, f"run_dir={folder}"))


def test_without_a_terminal_a_line_every_few_seconds_says_where_the_run_is(
    slow: None, compose_config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Seven chunks an epoch, of three seconds: due after 5 seconds and then every 10."""
    start(compose_config, tmp_path)
    steps = [2, 6, 10, 14, 18, 22, 26]
    said = lines(caplog)
    assert len(said) == len(steps)
    for step, line in zip(steps, said, strict=True):
        epoch, left = (step - 1) // 7 + 1, 3 * (28 - step)
        nll = r"train/nll \d\.\d{3}, val/nll \d\.\d{3}, " if epoch > 1 else ""
        pattern = rf"epoch {epoch} of 4, step {step} of 28, {nll}0(\d):(\d\d) left"
        match = re.fullmatch(pattern, line)
        assert match, line
        assert 60 * int(match[1]) + int(match[2]) == left


def test_the_lines_of_replicates_and_of_a_resumed_run(
    slow: None, compose_config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(compose_config, tmp_path, "replicates=2", "trainer.max_epochs=2")
    caplog.clear()
    start(compose_config, tmp_path, "replicates=2", f"ckpt_path={tmp_path}")
    assert re.match(r"epoch 3 of 4, step 16 of 28, train/nll \d.*, 00:36 left", lines(caplog)[0])
    assert re.match(r"epoch 3 of 4, step 20 of 28, .*, 00:24 left", lines(caplog)[1])
    assert re.match(r"epoch 4 of 4, step 24 of 28, train/nll \d", lines(caplog)[2])


def test_on_a_terminal_there_is_a_bar_and_no_line(
    slow: None,
    compose_config: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    start(compose_config, tmp_path)
    assert not lines(caplog)
    assert "28/28" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "val/nll" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_a_short_run_says_nothing(
    compose_config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start(compose_config, tmp_path)
    assert not lines(caplog)


def test_compiling_is_announced_before_it_begins(
    compose_config: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    said_before: list[bool] = []

    def compile(function: Any) -> Any:
        said_before.append("compiling the training step" in caplog.text)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    start(compose_config, tmp_path / "plain")
    assert "compiling the" not in caplog.text
    start(compose_config, tmp_path / "compiled", "compile=true")
    assert said_before == [True]
