"""Mistakes, each put into a copy of the project for the tests of its part to notice.

python tests/mutants.py [WORD ...]   tries those whose names have all the words; exit 1 if any lives
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutant(NamedTuple):
    """Edits of files below the root, (file, right, wrong), and the tests of which one must fail."""

    tests: str  # what pytest is given, from within tests/
    edits: tuple[tuple[str, str, str], ...]


FLOW, COUPLING = "src/flowlab/flows/flow.py", "src/flowlab/flows/coupling.py"
# the plane alone: elsewhere a mask used again trips over shapes before a test can judge it
FLOW_TESTS = "test_flows.py -k 'coupling-2 or normal'"

MUTANTS: dict[str, Mutant] = {
    # the flows
    "flows: the post's density error": Mutant(
        FLOW_TESTS,
        ((FLOW, "-0.5 * u.square().sum(-1)", "-0.5 * u.shape[-1] * u.square().sum(-1)"),),
    ),
    "flows: no log-det": Mutant(
        FLOW_TESTS, ((FLOW, "self.base.log_prob(u) + log_det", "self.base.log_prob(u)"),)
    ),
    "flows: the sign of s, one way": Mutant(
        FLOW_TESTS, ((COUPLING, "halves[moved], s.exp())", "halves[moved], (-s).exp())"),)
    ),
    "flows: the sign of s, both ways": Mutant(
        FLOW_TESTS,
        (
            (COUPLING, "halves[moved], s.exp())", "halves[moved], (-s).exp())"),
            (COUPLING, "(halves[moved] - t) * s.exp()", "(halves[moved] - t) * (-s).exp()"),
        ),
    ),
    "flows: a mask used again": Mutant(
        FLOW_TESTS, ((COUPLING, "kept, moved = i % 2, 1 - i % 2", "kept, moved = 0, 1"),)
    ),
    # the loop
    # data
    # replicates and their diagnosis
    # schedules
    # checkpoints, resuming, files
    # the exported flow
    # the report and its statistics
    # sweeps
    # pictures
    # the logger
    # the configuration and the command line
}


def run_tests(mutant: Mutant, folder: Path) -> tuple[int, str]:
    """Exit status and output of a mutant's tests on an edited copy of the project in `folder`."""
    for name in ("conf", "src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for file, right, wrong in mutant.edits:
        source = (folder / file).read_text()
        assert right in source, f"{file} changed; bring the mutant up to date: {right}"
        (folder / file).write_text(source.replace(right, wrong))
    command = f'"{sys.executable}" -m pytest -x -q -n 0 -p no:cacheprovider {mutant.tests}'
    run = subprocess.run(
        command,
        shell=True,
        cwd=folder / "tests",
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return run.returncode, run.stdout + run.stderr


def main(words: list[str]) -> int:
    lives = []
    for name, mutant in MUTANTS.items():
        if all(word in name for word in words):
            with tempfile.TemporaryDirectory() as folder:
                status, output = run_tests(mutant, Path(folder))
            fate = {0: "LIVES", 1: "caught"}.get(status, f"BROKEN, exit code {status}\n{output}")
            print(f"{name}: {fate}", flush=True)
            lives += [name] * (status != 1)
    print(f"{len(lives)} live: {', '.join(lives)}" if lives else "all caught")
    return len(lives)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) != 0)
