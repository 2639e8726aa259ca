"""The commands behind the README's figures, each in small; tests/test_faults.py has kill_runs.py.

Where they compare with other libraries these are those of `pip install -e ".[bench]"`.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

BENCHMARKS = ROOT / "tests" / "benchmarks"
OURS = ("compiled", "whole", "quality", "growth", "sweep")
PEERS = ("peers", "families", "images")
with_peers = pytest.mark.skipif(find_spec("zuko") is None, reason="no library to compare with")
pytestmark = pytest.mark.long


def run(name: str, *words: str, cwd: Path) -> str:
    command = [sys.executable, str(BENCHMARKS / name), *words]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("table", [*OURS, *(pytest.param(t, marks=with_peers) for t in PEERS)])
def test_speed(table: str, tmp_path: Path) -> None:
    output = run("speed.py", table, "--small", cwd=tmp_path)
    saved = (tmp_path / "benchmarks" / f"{table}.md").read_text()
    assert saved in output
    assert saved.count("|") > 10
    assert "nan" not in saved


@with_peers
def test_tables(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 3)))
    output = run("tables.py", "maf", "1", "x.npy", cwd=tmp_path)
    assert "maf on x.npy: zuko's test NLL " in output


def test_kill_writes(tmp_path: Path) -> None:
    *_, last = run("kill_writes.py", "3", cwd=tmp_path).splitlines()
    assert "0 files corrupt, 0 missing" in last
