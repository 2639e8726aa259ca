"""Every block of the tutorial runs, and its commands train."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_PICTURES, ROOT, SHORT, Compose

from flowlab.experiment import train
from flowlab.targets import build_target

TEXT = (ROOT / ".github" / "tutorial.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^    python train\.py (.*)$", TEXT, re.MULTILINE)


def test_the_blocks_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "tutorial.md", "exec"), names)
    said = capsys.readouterr().out
    nll, entropy, kl = map(float, re.findall(r"\d+\.\d+", said))
    assert math.isclose(entropy, build_target("bimodal").entropy, abs_tol=0.005)
    assert 0 < kl < 0.3  # 0.1 in the tutorial's seed
    assert entropy - 0.1 < nll < entropy + 0.3
    assert names["u"].shape == (1000, 2)


@pytest.mark.parametrize("words", COMMANDS)
def test_its_commands_train(words: str, compose_config: Compose, tmp_path: Path) -> None:
    cfg = compose_config(*shlex.split(words), *SHORT, *NO_PICTURES, f"run_dir={tmp_path}")
    assert train(cfg)["status"] == "completed"
