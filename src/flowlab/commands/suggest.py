"""What to do about a key that is not there, after what the words have chosen."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowlab.commands.groups import choices, compose, groups
from flowlab.config import near

CLOSED = ("trainer", "flow")  # what a YAML of them does not name they do not take


def suggest(key: str, folders: Sequence[Path], words: Sequence[str]) -> str:
    """A plus where its part takes it, whose key it is where another choice has it, or one near."""
    keys = _chosen(folders, words)
    word = next((word for word in words if word.partition("=")[0] == key), "")
    if word and (part := _taking(key, keys)):
        return f"add a plus: +{word}, as {part} takes it"
    if owners := _owners(key, folders):
        return f"{' or '.join(owners)} {'has' if len(owners) == 1 else 'have'} it"
    known = cast(dict[str, Any], OmegaConf.to_container(keys))
    return near(key, dict.fromkeys(groups(folders), "") | known) or "see python train.py --help"


def _chosen(folders: Sequence[Path], words: Sequence[str]) -> DictConfig:
    """The configuration of the words that choose, of several choices the first; else the default's.

    The others may be mistakes too.
    """
    names = groups(folders)
    choosing = [w.partition(",")[0] for w in words if w.lstrip("+").partition("=")[0] in names]
    try:
        return compose(folders, choosing)[0]
    except (HydraException, OmegaConfBaseException, ValueError):
        return compose(folders)[0]


def _taking(key: str, keys: DictConfig) -> str:
    """The class or function of a key's group if it has such an argument, which no YAML names."""
    group, _, name = key.rpartition(".")
    values = OmegaConf.select(keys, group) if group and group not in CLOSED else None
    target = str(values.get("_target_")) if isinstance(values, DictConfig) else ""
    if not target:
        return ""
    try:
        return target if name in inspect.signature(get_object(target)).parameters else ""
    except Exception:  # whatever a name that leads nowhere runs into
        return ""


def _owners(key: str, folders: Sequence[Path]) -> list[str]:
    """The choices of a key's group, as flow=planar, whose YAML gives the key a value."""
    group, _, name = key.partition(".")
    found = []
    for choice in choices(folders, group) if name else ():
        for path in (folder / group / f"{choice}.yaml" for folder in folders):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            where = key if text.startswith("# @package _global_") else name
            parent, _, last = f".{where}".rpartition(".")
            there = OmegaConf.select(OmegaConf.create(text), parent.lstrip(".")) if text else None
            if isinstance(there, DictConfig) and last in set(there):  # ??? is not in it itself
                found.append(f"{group}={choice}")
    return list(dict.fromkeys(found))
