"""The words of `python train.py`, as Hydra's own parser reads them; a mistake is one line."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from flowlab.errors import ConfigError

RERUN = "--config-path RUN/.hydra --config-name config ckpt_path=null"


def read(words: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, and as `overrides` all other words, wherever they stand.

    Folders are made absolute. Raises ConfigError.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(words)
    if args.experimental_rerun is not None:
        flag = f"--experimental-rerun {args.experimental_rerun}"
        raise ConfigError(f"{flag}: of no use here; to repeat a run: python train.py {RERUN}")
    for name in ("config_dir", "config_path"):
        path = getattr(args, name)
        if path is not None and "://" not in path:
            if not Path(path).is_dir():
                raise ConfigError(f"--{name.replace('_', '-')} {path}: no such folder")
            setattr(args, name, str(Path(path).resolve()))
    return args


def looks(args: argparse.Namespace) -> bool:
    """Whether the flags only ask for something to be shown."""
    return bool(args.cfg or args.info or args.hydra_help or args.shell_completion)


def _refuse(message: str) -> NoReturn:
    if match := re.fullmatch(r"unrecognized arguments: (-+(\w\S*=.*))", message):
        raise ConfigError(f"{match[1]}: keys have no dashes; write {match[2]}")
    raise ConfigError(f"{message}; see python train.py --hydra-help")
