"""The first steps of training from a shell, before there is anything to wait for."""

import gc
import os
import sys
from pathlib import Path

from flowlab import signals

PACKAGE = Path(__file__).resolve().parents[1]


def conf() -> Path:
    """The folder of configurations: within the package where it was built in, else the project's.

    Raises FileNotFoundError if there is neither.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"{PACKAGE}: no conf/train.yaml in it or beside it")


def start(conf: Path) -> None:
    """Run the command line that trains, with the configurations of a folder."""
    signals.leave_at_once()
    _open_what_is_closed()
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files, whatever is set for windows
    gc.disable()  # the imports make half a million objects and no garbage: a fifth of their time
    from flowlab.commands.train import main

    main(conf)


def _open_what_is_closed() -> None:
    """Have standard streams that the shell has closed, as by `2>&-`, go nowhere.

    Else the next files to be opened would get their numbers, and with them what is meant for them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # in this order, for a file gets the lowest number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
