"""Curves over the training: numbers in, a matplotlib `Figure` out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flowlab.plots.style import BLUE, ORANGE, titled_figure


def loss(
    epochs: Sequence[int],
    train: Sequence[Any],
    val: Sequence[Any],
    name: str,
    line: tuple[str, float] | None,
    title: str,
) -> Figure:
    """The loss `name` of training and validation by epoch, with a line to compare it with, if any.

    Shapes: train and val (epochs,), or (epochs, R) of replicates: their mean, and a band from the
    lowest to the highest.
    """
    figure = titled_figure(title)
    ax = figure.add_axes((0.09, 0.13, 0.88, 0.73))
    for values, color, split in ((train, BLUE, "training"), (val, ORANGE, "validation")):
        curves = np.reshape(values, (len(epochs), -1))
        replicated = curves.shape[1] > 1
        label = f"{split}, mean and range of {curves.shape[1]} replicates" if replicated else split
        ax.plot(epochs, curves.mean(1), ".-", color=color, label=label)
        if replicated:
            ax.fill_between(epochs, curves.min(1), curves.max(1), color=color, alpha=0.25)
    if line is not None:
        label = f"{line[0]}, {line[1]:.4f} nats"
        ax.axhline(line[1], color="black", linestyle="--", label=label)
    ax.set(xlabel="epoch", ylabel=f"{name} (nats per point)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend()
    return figure
