"""A few of the known mistakes are noticed; `python tests/mutants.py` tries all of them."""

from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant, run_tests

IN_THE_SUITE = [name for name in MUTANTS if name.startswith("flows: ")]


@pytest.mark.parametrize("tests", {MUTANTS[name].tests for name in IN_THE_SUITE})
def test_without_a_mutation_all_pass(tests: str, tmp_path: Path) -> None:
    status, output = run_tests(Mutant(tests, ()), tmp_path)
    assert status == 0, output


@pytest.mark.parametrize(
    "name", IN_THE_SUITE[:1] + [pytest.param(n, marks=pytest.mark.long) for n in IN_THE_SUITE[1:]]
)
def test_mutant_is_caught(name: str, tmp_path: Path) -> None:
    status, output = run_tests(MUTANTS[name], tmp_path)
    assert status == 1, output
    assert "AssertionError" in output or "\nE       assert " in output, output
