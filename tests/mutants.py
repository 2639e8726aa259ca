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
LOOP_TESTS = "test_training.py"
MODULE, DATA = "src/flowlab/module.py", "src/flowlab/data.py"
DIVERGENCE = "src/flowlab/divergence.py"
CHECKPOINT = "src/flowlab/callbacks/checkpoint.py"
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
    "loop: a short batch weighted as a full one": Mutant(
        LOOP_TESTS, ((MODULE, "world_size / batch.shape[-2])", "world_size / self.batch_size)"),)
    ),
    "loop: the mean of the means of batches": Mutant(
        LOOP_TESTS,
        (
            (
                MODULE,
                "self.losses.append((nll.detach(), batch.shape[-2]))",
                "self.losses.append((nll.detach() / batch.shape[-2], 1))",
            ),
        ),
    ),
    "loop: the loss of the last batch alone": Mutant(
        LOOP_TESTS, ((MODULE, "self._mean(self.losses)", "self._mean(self.losses[-1:])"),)
    ),
    "loop: the schedule an epoch late": Mutant(
        LOOP_TESTS,
        (
            (
                MODULE,
                "progress = self.current_epoch /",
                "progress = max(0, self.current_epoch - 1) /",
            ),
        ),
    ),
    "loop: the schedule an epoch early": Mutant(
        LOOP_TESTS,
        ((MODULE, "progress = self.current_epoch /", "progress = (self.current_epoch + 1) /"),),
    ),
    "loop: ties go to the last epoch": Mutant(
        LOOP_TESTS,
        ((CHECKPOINT, "nll < self.best_nll.to(nll)", "nll <= self.best_nll.to(nll)"),),
    ),
    "loop: clipped by another norm": Mutant(
        LOOP_TESTS,
        ((MODULE, "clip_grad_norm_(parameters, norm)", "clip_grad_norm_(parameters, 2 * norm)"),),
    ),
    # the test's figures
    "figures: the standard error of a point": Mutant(
        "test_experiment.py -k metrics", ((MODULE, "/ max(1, num - 1)", ""),)
    ),
    "figures: the entropy of the model": Mutant(
        "test_divergence.py", ((DIVERGENCE, "mass = log_p.exp()", "mass = log_q(x).exp()"),)
    ),
    "figures: the reverse divergence": Mutant(
        "test_divergence.py", ((DIVERGENCE, "(log_p - log_q(x))", "(log_q(x) - log_p)"),)
    ),
    "figures: one grid": Mutant(
        "test_divergence.py", ((DIVERGENCE, "(error < TOLERANCE)", "(error < math.inf)"),)
    ),
    "figures: the grid's lines instead of its middles": Mutant(
        "test_divergence.py", ((DIVERGENCE, "(axis + 0.5)", "axis"),)
    ),
    "figures: the standard deviation for the standard error": Mutant(
        "test_divergence.py", ((DIVERGENCE, " / (n - 1)).sqrt()", ").sqrt()"),)
    ),
    # data
    "data: replicates share the points of the first": Mutant(
        "test_data.py",
        ((DATA, "for seed in self.seeds])", "for _ in self.seeds for seed in [0]])"),),
    ),
    "data: replicates share the order of the first": Mutant(
        "test_data.py",
        (
            (
                DATA,
                'generator("order", seed, epoch)',
                'generator("order", self.order_seeds[0], epoch)',
            ),
        ),
    ),
    "data: the points do not follow the seed": Mutant(
        "test_data.py", ((DATA, "self.order_seeds if seed is None", "[0] if seed is None"),)
    ),
    "data: fresh points are those of the test": Mutant(
        "test_data.py", ((DATA, '"data/fresh"', '"data/test"'),)
    ),
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
