"""Images in rows, as they are seen."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from flowlab.plots.style import Array, titled_figure

Rows = Sequence[tuple[str, Array]]

LEFT, TOP, GAP = 1.5, 0.45, 0.06  # inches


def rows(named: Rows, levels: int, title: str) -> Figure:
    """Rows of images, each with its name and its images (n, H, W) or (n, H, W, C), as many in all.

    Numbers from 0 to levels - 1 are shown from black to white; a flow's beyond them, and those that
    are not finite, as the nearest.
    """
    num = len(named[0][1])
    side = (10 - LEFT) / num
    height = side * len(named) + TOP + 0.1
    figure = titled_figure(title, height)
    for i, (name, images) in enumerate(named):
        bottom = 1 - (TOP + (i + 1) * side) / height
        figure.text(0.01, bottom + side / height / 2, name, va="center")
        for j, image in enumerate(images):
            room = (LEFT + j * side) / 10, bottom, side * (1 - GAP) / 10, side * (1 - GAP) / height
            ax = figure.add_axes(room)
            ax.set_axis_off()
            shown = image.squeeze(-1) if image.shape[2:] == (1,) else image
            shown = (shown / (levels - 1)).clip(0, 1)
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return figure
