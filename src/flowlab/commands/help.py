"""`python train.py --help`: groups, and keys with what their YAML files say of them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from flowlab.commands.groups import choices, compose, groups
from flowlab.commands.terminal import as_called

KEY = re.compile(r"( *)(- )?([\w.]+):(?: |$)")
COMMENT = re.compile(r"(?:^| )# *(.*)")
BASE = re.compile(r"  - (\w+)(?:@(\w+))?$")  # in a list of defaults: another file of the group
COLUMN = 34  # of the comments
USAGE = """Train a normalizing flow:  python train.py [key=value ...] [group=choice ...]

  python train.py num_flows=8             change one thing
  python train.py -m num_flows=2,4,8      one run for each value
  python train.py experiment=fast         a preset
  python train.py --hydra-help            flags of the command line

Groups:"""


class Line(NamedTuple):
    """A line of YAML, with the dotted key that it gives a value to."""

    text: str
    key: str
    comment: str


def print_help(folders: Sequence[Path], overrides: Sequence[str]) -> None:
    """Usage, groups and keys. Hydra's own --help takes half as long again."""
    config, chosen = compose(folders, overrides)
    said = comments(folders, chosen)
    print(as_called(USAGE))
    for group in groups(folders):
        of_it = said.get(f"defaults.{group}", "")
        print(f"  {group}={'|'.join(choices(folders, group))}" + (f"  # {of_it}" if of_it else ""))
    print("\nKeys, with their values; a group's are those of its _target_:\n")
    for line in read(OmegaConf.to_yaml(config).splitlines()):
        comment = said.get(line.key)
        print(f"{line.text.ljust(COLUMN)}  # {comment}" if comment else line.text)


def comments(folders: Sequence[Path], chosen: Mapping[str, str]) -> dict[str, str]:
    """What the YAML files of a configuration say of their keys; of several the last to come in."""
    said = dict(_of_file(folders, "", "train"))
    order = [line.key for line in read(_lines(folders, "", "train"))]
    places = {key.removeprefix("defaults."): place for place, key in enumerate(order)}
    for group in sorted(chosen, key=lambda group: places.get(group, len(order))):
        said.update(_of_file(folders, group, chosen[group]))
    return said


def _of_file(
    folders: Sequence[Path], group: str, name: str, package: str | None = None
) -> Iterator[tuple[str, str]]:
    """The keys with comments of a file, after those of the files that it is based on."""
    lines = _lines(folders, group, name)
    if package is None:
        package = "" if "# @package _global_" in lines[:1] else group
    for base in filter(None, map(BASE.match, lines)):
        yield from _of_file(folders, group, base[1], base[2] or package)
    for line in read(lines):
        if line.comment:
            yield f"{package}.{line.key}".lstrip("."), line.comment


def _lines(folders: Sequence[Path], group: str, name: str) -> list[str]:
    """The first file of this name; none where there is no such."""
    paths = [folder / group / f"{name}.yaml" for folder in folders]
    text = next((path.read_text(encoding="utf-8") for path in paths if path.exists()), "")
    return text.splitlines()


def read(lines: Iterable[str]) -> Iterator[Line]:
    """The lines of block YAML, with their keys and comments.

    >>> [line.key for line in read(["a: 1", "b:", "  c: 2", "- d"])]
    ['a', 'b', 'b.c', '']
    """
    parents: list[tuple[int, str]] = []  # indentation and name, outermost first
    for text in lines:
        comment = COMMENT.search(text)
        key = ""
        if match := KEY.match(text):
            indent = len(match[1]) + len(match[2] or "")
            parents = [parent for parent in parents if parent[0] < indent]
            parents.append((indent, match[3]))
            key = ".".join(name for _, name in parents)
        yield Line(text, key, comment[1] if comment and key else "")
