"""Files of strangers: `load` and `ckpt_path` run none of their code and do not choke on them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Run
from hostile import bombs

from flowlab.errors import ModelFileError
from flowlab.runs.checkpoints import read_checkpoint, seal


def test_checkpoints_that_unfold_are_refused_before_they_do(short_run: Run, tmp_path: Path) -> None:
    good, path = short_run.folder / "checkpoints" / "last.ckpt", tmp_path / "bomb.ckpt"
    checkpoint = torch.load(good, weights_only=True)
    for content in bombs(checkpoint, tmp_path / "archive"):
        path.write_bytes(seal(content))
        with pytest.raises(ModelFileError, match=r"unfolds to far more|overlap|names|recursion"):
            read_checkpoint(path)


@pytest.mark.long
def test_hostile_files_are_refused_and_nothing_happens(short_run: Run, tmp_path: Path) -> None:
    script = Path(__file__).with_name("hostile.py")
    good = short_run.folder / "checkpoints" / "last.ckpt"
    command = [sys.executable, str(script), str(tmp_path), str(good)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    events = [event for result in results for event in result["events"]]
    print(f"{len(results)} files, {len(events)} events")
    assert events == []
    assert len(results) > 100
    for result in results:
        assert result["outcome"] == ["refused", "refused"], result
        assert result["memory"] < 64 * 2**20, result
    assert not (tmp_path / "harm").exists()
