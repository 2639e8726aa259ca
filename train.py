"""Train a normalizing flow: python train.py [key=value ...]; --help lists the keys."""

import gc
import os
import signal

gc.disable()  # the imports make half a million objects and no garbage: a fifth of their time
for signum in (signal.SIGINT, signal.SIGTERM):  # until there is something to save
    signal.signal(signum, lambda number, frame: os._exit(128 + number))

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from flowlab import processes  # noqa: E402
from flowlab.command_line import VALIDATE, one_line_errors, print_help, run  # noqa: E402

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> Any:
    """Train the flow of a configuration that Hydra has composed and `Validate` has checked."""
    from flowlab.experiment import train

    gc.enable()
    gc.freeze()
    return run(train, cfg)


if __name__ == "__main__":
    with processes.taking_part(), one_line_errors(CONF):
        if {"-h", "--help"} & set(sys.argv):
            print_help(CONF, [word for word in sys.argv[1:] if not word.startswith("-")])
        else:
            sys.argv += [VALIDATE, *processes.words()]
            main()
