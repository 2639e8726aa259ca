"""The README's commands, held against the command line: every word that they have is there."""

import importlib
import re
import shlex
from collections.abc import Iterator

import pytest
from conftest import ROOT, Compose, cells_of

from flowlab.config import validate
from flowlab.errors import ConfigError

README = (ROOT / "README.md").read_text()
BENCHMARKS = "tests/benchmarks/"
STANDS_FOR = {  # what the README leaves to the reader
    "NAME": "maf",
    "flow=NAME": "flow=maf",
    "data.target=NAME": "data.target=bimodal",
    "...": "seed=0,1",
}
# with files of the user's own, which the tests of what they belong to make
ELSEWHERE = ("--config-dir", "--config-path", "--help")


def commands() -> Iterator[list[str]]:
    """The commands in indented lines and within backticks, each as its words."""
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", README)
    for text in (*re.findall(r"^ {4}(.*)$", README, re.M), *spans):
        for part in text.replace("\n", " ").split("&&"):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # prose between the backticks of others
                continue
            if {"train.py", "flowlab"} & {*words} or any(BENCHMARKS in word for word in words):
                yield [STANDS_FOR.get(word, word) for word in words]


COMMANDS = [*dict.fromkeys(map(tuple, commands()))]
TRAINING = [words for words in COMMANDS if "train.py" in words and words[0] != "train.py"]
USING = [words for words in COMMANDS if words[:3] == ("python", "-m", "flowlab")]


def test_they_are_found() -> None:
    assert len(TRAINING) > 30
    assert {words[3] for words in USING} >= {"report", "sample", "score"}
    starts = {words[0] for words in TRAINING}
    assert starts == {"python", "torchrun", "srun"}
    for sweep in (ROOT / "conf" / "sweep").glob("*.yaml"):
        assert any(f"sweep={sweep.stem}" in words for words in TRAINING), f"{sweep} is not shown"


@pytest.mark.parametrize("words", TRAINING, ids=" ".join)
def test_every_training_composes(words: tuple[str, ...], compose_config: Compose) -> None:
    own = list(words[words.index("train.py") + 1 :])
    if {*ELSEWHERE} & {*own}:
        return
    if "data=table" in own and not any(word.startswith("data.path=") for word in own):
        own.append("data.path=my.csv")  # where the last words are in lines of their own
    seen: set[str] = set()
    for cell, compose in cells_of(own):
        if not {*cell} <= seen:  # each value once, not each combination
            seen |= {*cell}
            try:
                validate(compose())
            except ConfigError as error:
                if "no usable GPU" not in str(error):
                    raise


@pytest.mark.parametrize("line", re.findall(r"^ {4}(data\.path=.*)$", README, re.M))
def test_so_do_the_lines_on_files(line: str, compose_config: Compose) -> None:
    for _, compose in cells_of(["data=table", *shlex.split(line)]):
        validate(compose())


@pytest.mark.parametrize("words", USING, ids=" ".join)
def test_every_use_of_a_run_is_understood(words: tuple[str, ...]) -> None:
    command = importlib.import_module(f"flowlab.commands.{words[3]}")
    if hasattr(command, "_arguments"):  # which ends the program where it does not understand
        command._arguments(words[4:])


def test_every_benchmark_is_there() -> None:
    names = {word for words in COMMANDS for word in words if word.startswith(BENCHMARKS)}
    assert names >= {f"{BENCHMARKS}{name}.py" for name in ("speed", "tables", "kill_runs")}
    for name in names:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("path", [*dict.fromkeys(re.findall(r"(?:\]\(|src=\")([^)\"]+)", README))])
def test_every_picture_is_there(path: str) -> None:
    assert (ROOT / path).is_file()
