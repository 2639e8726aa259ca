"""Train a normalizing flow: python train.py [key=value ...]; --help lists the keys."""

from pathlib import Path

from flowlab.commands.start import start

if __name__ == "__main__":
    start(Path(__file__).resolve().parent / "conf")
