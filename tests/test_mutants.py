"""Each known mistake, put into a copy of the package, fails one of the flow tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowlab

FLOW, COUPLING = "flows/flow.py", "flows/coupling.py"

MUTANTS = {
    "the post's density error": [
        (FLOW, "-0.5 * u.square().sum(-1)", "-0.5 * u.shape[-1] * u.square().sum(-1)")
    ],
    "no log-det": [(FLOW, "self.base.log_prob(u) + log_det", "self.base.log_prob(u)")],
    "the sign of s, one way": [(COUPLING, "halves[moved], s.exp())", "halves[moved], (-s).exp())")],
    "the sign of s, both ways": [
        (COUPLING, "halves[moved], s.exp())", "halves[moved], (-s).exp())"),
        (COUPLING, "(halves[moved] - t) * s.exp()", "(halves[moved] - t) * (-s).exp()"),
    ],
    "a mask used again": [(COUPLING, "kept, moved = i % 2, 1 - i % 2", "kept, moved = 0, 1")],
}


def run_flow_tests(folder: Path, edits: list[tuple[str, str, str]]) -> tuple[int, str]:
    """Exit status and output of the flow tests on an edited copy of the package."""
    package = folder / "flowlab"
    shutil.copytree(Path(flowlab.__file__).parent, package)
    for file, right, wrong in edits:
        source = (package / file).read_text()
        assert right in source, f"{file} changed; bring the mutant up to date"
        (package / file).write_text(source.replace(right, wrong))
    shutil.copy(Path(__file__).with_name("test_flows.py"), folder)
    # the plane alone: elsewhere a mask used again trips over shapes before a test can judge it
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-k", "coupling-2 or normal", "test_flows.py"]
    run = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.returncode, run.stdout


def test_without_a_mutation_all_pass(tmp_path: Path) -> None:
    status, output = run_flow_tests(tmp_path, [])
    assert status == 0, output


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, tmp_path: Path) -> None:
    status, output = run_flow_tests(tmp_path, MUTANTS[name])
    assert status == 1, output
    assert "AssertionError" in output or "\nE       assert " in output, output
