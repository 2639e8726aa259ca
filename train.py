"""Train a normalizing flow: python train.py [key=value ...]; --help lists the keys."""

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    try:
        from flowlab.commands.start import start

        start(here / "conf")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name}: not installed; try pip install -e {str(here)!r}")
