"""The training as a film: arrays in, the bytes of a GIF out."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from flowlab.plots.style import COLORMAP, plane

COLORS = 128
FRAME, LAST = 120, 2500  # milliseconds


def density(
    learned: Sequence[NDArray[np.uint8]],
    true: NDArray[np.uint8],
    captions: Sequence[str],
    limit: float,
) -> bytes:
    """The learned density from frame to frame, beside the true one.

    Shapes: (G, G) each, from 0 for none to 255 for the highest of the true density, over the square
    [-limit, limit]^2 with rows along x2.
    """
    figure = Figure(figsize=(4, 2.4), dpi=150)
    canvas: Any = FigureCanvasAgg(figure)
    caption = figure.text(0.5, 0.95, "", ha="center", va="center", fontsize=10, animated=True)
    look: dict[str, Any] = {"cmap": COLORMAP, "vmin": 0, "vmax": 255, "interpolation": "bilinear"}
    look |= {"origin": "lower", "extent": (-limit, limit, -limit, limit)}
    for left, name, values in ((0.1, "learned", learned[0]), (0.59, "true", true)):
        ax = figure.add_axes((left, 0.12, 0.39, 0.39 * 4 / 2.4))
        plane(ax, f"{name} density", limit)
        ax.imshow(values, animated=name == "learned", **look)
    canvas.draw()
    still, (ax, _) = canvas.copy_from_bbox(figure.bbox), figure.axes
    frames: list[Image.Image] = []
    for values, words in zip(learned, captions, strict=True):
        canvas.restore_region(still)
        ax.images[0].set_data(values)
        caption.set_text(words)
        ax.draw_artist(ax.images[0])
        figure.draw_artist(caption)
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        palette = frames[0] if frames else picture.quantize(COLORS)
        frames.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    gif, times = io.BytesIO(), [FRAME] * (len(frames) - 1) + [LAST]
    frames[0].save(
        gif, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False
    )
    return gif.getvalue()
