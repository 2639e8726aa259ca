"""Curves over the training: numbers in, a matplotlib `Figure` out."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from flowlab.plots.style import BLUE, ORANGE, Array, titled_figure

LINEAR = 0.01  # nats around 0 where a logarithmic axis with negative values is linear


def loss(
    epochs: Sequence[int],
    train: Array,
    val: Array,
    name: str,
    line: tuple[str, float] | None,
    title: str,
) -> Figure:
    """The loss `name` of training and validation by epoch, with a line to compare it with, if any.

    Shapes: train and val (epochs, R) of R replicates: their mean, and a band from the lowest to the
    highest.
    """
    figure = titled_figure(title)
    ax = figure.add_axes((0.15, 0.18, 0.82, 0.68))
    for curves, color, split in ((train, BLUE, "training"), (val, ORANGE, "validation")):
        num = curves.shape[1]
        label = f"{split}, mean and range of {num}" if num > 1 else split
        ax.plot(epochs, curves.mean(1), ".-", color=color, label=label, markersize=3, linewidth=1)
        if num > 1:
            ax.fill_between(epochs, curves.min(1), curves.max(1), color=color, alpha=0.25)
    if line is not None:
        label = f"{line[0]}, {line[1]:.4f} nats"
        ax.axhline(line[1], color="black", linestyle="--", linewidth=1, label=label)
    ax.set(xlabel="epoch", ylabel=f"{name} (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.tick_params(labelsize=9)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=9)
    return figure


def excess(epochs: Sequence[int], train: Array, val: Array, name: str, title: str) -> Figure:
    """The loss less its lowest value, on a logarithmic axis; shapes as for `loss`.

    Of few points it may be below 0, as it is of those that a flow knows too well: then the axis is
    linear around 0.
    """
    figure = loss(epochs, train, val, name, None, title)
    (ax,) = figure.axes
    if min(train.min(), val.min()) > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_yscale("symlog", linthresh=LINEAR)
        ax.axhline(0, color="black", linewidth=1)
    return figure
