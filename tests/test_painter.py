"""Files that are whole or absent, and the process that draws them."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from flowlab.files import write_whole
from flowlab.painter import Painter


def empty(width: float) -> Figure:
    return Figure(figsize=(width, 1), dpi=100)


def broken() -> Figure:
    raise RuntimeError("no picture today")


def test_pictures_come_back_in_order(tmp_path: Path) -> None:
    painter = Painter()
    for width in (3, 1, 2):
        painter.paint(width, tmp_path / f"{width}.png", empty, width)
    finished = painter.finished(wait=True)
    assert [tag for tag, _ in finished] == [3, 1, 2]
    for width, png in finished:
        assert (tmp_path / f"{width}.png").read_bytes() == png
    assert painter.finished() == []


def test_a_failure_in_drawing_is_not_swallowed(tmp_path: Path) -> None:
    painter = Painter()
    painter.paint("broken", tmp_path / "broken.png", broken)
    with pytest.raises(RuntimeError, match="no picture today"):
        painter.finished(wait=True)


def test_a_file_is_replaced_whole_or_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
