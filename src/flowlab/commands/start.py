"""The first steps of `python train.py`, before there is anything to wait for."""

import gc
from pathlib import Path

from flowlab import signals


def start(conf: Path) -> None:
    """Run the command line that trains, with the configurations of a folder."""
    signals.leave_at_once()
    gc.disable()  # the imports make half a million objects and no garbage: a fifth of their time
    from flowlab.commands.train import main

    main(conf)
