"""`python train.py --help`: groups, and keys with what their YAML files say of them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from flowlab.commands.groups import choices, compose, groups

KEY = re.compile(r"( *)(- )?([\w.]+):(?: |$)")
COMMENT = re.compile(r"(?:^| )# *(.*)")
BASE = re.compile(r"  - (\w+)(?:@(\w+))?$")  # in a list of defaults: another file of the group
COLUMN = 34  # of the comments


class Line(NamedTuple):
    """A line of YAML, with the dotted key that it gives a value to."""

    text: str
    key: str
    comment: str


def print_help(folders: Sequence[Path], overrides: Sequence[str]) -> None:
    """Usage, groups and keys. Hydra's own --help takes half as long again."""
    config = compose(folders, overrides)
    said = comments(folders, config.pop("hydra")["runtime"]["choices"].items())
    print("Train a normalizing flow:  python train.py [key=value ...] [group=choice ...]\n")
    print("  python train.py num_flows=8             change one thing")
    print("  python train.py -m num_flows=2,4,8      one run for each value")
    print("  python train.py experiment=fast         a preset")
    print("  python train.py --hydra-help            flags of the command line\n\nGroups:")
    for group in groups(folders):
        of_it = said.get(f"defaults.{group}", "")
        print(f"  {group}={'|'.join(choices(folders, group))}" + (f"  # {of_it}" if of_it else ""))
    print("\nKeys, with their values; a group's are those of its _target_:\n")
    for line in read(OmegaConf.to_yaml(OmegaConf.create(config)).splitlines()):
        comment = said.get(line.key)
        print(f"{line.text.ljust(COLUMN)}  # {comment}" if comment else line.text)


def comments(folders: Sequence[Path], chosen: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """What the YAML files of a configuration say of their keys; of several the last."""
    files = [("", folders[0] / "train.yaml")]
    for group, choice in chosen:
        paths = [folder / group / f"{choice}.yaml" for folder in folders]
        files += [(group, path) for path in paths if path.exists()][:1]
    found = {}
    for package, file in files:
        for key, comment in _of_file(package, file):
            found[key] = comment
    return found


def _of_file(package: str, file: Path) -> Iterator[tuple[str, str]]:
    """The keys with comments of a file, after those of the files that it is based on."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if "# @package _global_" in lines[:1]:
        package = ""
    for base in filter(None, map(BASE.match, lines)):
        if (path := file.with_name(f"{base[1]}.yaml")).exists():
            yield from _of_file(base[2] or package, path)
    for line in read(lines):
        if line.comment:
            yield f"{package}.{line.key}".lstrip("."), line.comment


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
