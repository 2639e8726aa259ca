"""Images in rows, as they are seen."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from flowlab.plots.style import Array, titled_figure

Rows = Sequence[tuple[str, Array]]

TOP, NAME, GAP = 0.5, 0.45, 0.06  # in tenths of the width


def rows(named: Rows, levels: int, title: str) -> Figure:
    """Rows of images, each with its name and its images (n, H, W) or (n, H, W, C), as many in all.

    Numbers from 0 to levels - 1 are shown from black to white; a flow's beyond them, and those that
    are not finite, as the nearest.
    """
    num = len(named[0][1])
    side = 10 / num
    figure = titled_figure(title, height := TOP + len(named) * (NAME + side) + 0.1)
    for i, (name, images) in enumerate(named):
        bottom = height - TOP - (i + 1) * (NAME + side)
        figure.text(0.01, (bottom + side + 0.1) / height, name, fontsize=9)
        for j, image in enumerate(images):
            room = (
                j * side / 10,
                bottom / height,
                side * (1 - GAP) / 10,
                side * (1 - GAP) / height,
            )
            ax = figure.add_axes(room)
            ax.set_axis_off()
            shown = image.squeeze(-1) if image.shape[2:] == (1,) else image
            shown = (shown / (levels - 1)).clip(0, 1)
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return figure
