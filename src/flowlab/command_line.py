"""What `python train.py` does around Hydra: check first, help fast, one line for a mistake."""

import difflib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowlab.config import ConfigError, flatten, validate


class Refused(BaseException):
    """Carries a ConfigError, its cause, through Hydra, which swallows Exceptions of its callbacks."""


class Validate(Callback):
    """A Hydra callback that checks the configuration before the run directory is made."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            validate(config)
        except ConfigError as error:
            raise Refused from error


@contextmanager
def one_line_errors(conf: Path) -> Iterator[None]:
    """Turn a user's mistake into one line and exit status 2; HYDRA_FULL_ERROR=1 keeps the traceback."""
    keep_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    try:
        yield
    except (Refused, ConfigError, HydraException, OmegaConfBaseException) as caught:
        error = caught.__cause__ if isinstance(caught, Refused) else caught
        assert error is not None
        if keep_traceback:
            raise error
        print(f"error: {explain(error, conf)}", file=sys.stderr)
        sys.exit(2)


def explain(error: BaseException, conf: Path) -> str:
    """One line on what is wrong and what is allowed."""
    text = str(error)
    if match := re.match(r"Could not (override|delete from config)[^']*'([^']+)'", text):
        key = match[2]
        return f"{key}: no such key; {_near(key, _keys(conf))}"
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = match[1], match[2]
        choices = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        return f"{group}={choice}: no such choice; available: {', '.join(choices)}"
    return " ".join(text.split())


def print_help(conf: Path) -> None:
    """Usage, groups and keys; Hydra's own --help takes twice as long, re-reading itself per group."""
    groups = {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in conf.iterdir()}
    print("Train a normalizing flow:  python train.py [key=value ...] [group=choice ...]\n")
    print("  python train.py num_flows=8             change one thing")
    print("  python train.py -m num_flows=2,4,8      one run for each value")
    print("  python train.py experiment=fast         a preset")
    print("  python train.py --hydra-help            flags of the command line\n\nGroups:")
    for group, choices in sorted(groups.items()):
        if choices:
            print(f"  {group}={'|'.join(choices)}")
    print(f"\nKeys, with what they are now:\n\n{OmegaConf.to_yaml(_compose(conf))}", end="")


def _compose(conf: Path) -> DictConfig:
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("train")


def _keys(conf: Path) -> list[str]:
    leaves = [key for key, _ in flatten(OmegaConf.to_container(_compose(conf)))]
    parents = {key.rsplit(".", 1)[0] for key in leaves if "." in key}
    return leaves + sorted(parents)


def _near(key: str, keys: list[str]) -> str:
    near = difflib.get_close_matches(key, keys, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else "see python train.py --help"
