"""Files that are whole or absent, and the process that draws them."""

import multiprocessing as mp
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.figure import Figure

from flowlab.files import write_whole
from flowlab.painter import Painter, _pool


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


def test_what_a_script_draws_is_drawn_and_the_script_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that trains needs no `if __name__ == "__main__":`."""
    script = ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setitem(sys.modules, "__main__", script)
    pool = _pool.__wrapped__()
    assert pool.submit(abs, -1).result() == 1
    pool.shutdown()
    assert sys.modules["__main__"] is script
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(empty, "__module__", "__main__")
    painter = Painter()
    painter.paint("own", tmp_path / "own.png", empty, 1)
    ((tag, png),) = painter.finished()
    assert (tag, png) == ("own", (tmp_path / "own.png").read_bytes())


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


def end_by(signum: signal.Signals, flag: Path) -> Figure:
    """Ends the process that draws, the first time."""
    if not flag.exists():
        flag.touch()
        part = flag.with_name(f".end.png.{os.getpid()}.part")
        part.touch()  # as in the middle of writing
        os.kill(os.getpid(), signum)
    return empty(1)


def out_of_memory() -> Figure:
    raise MemoryError


def test_without_the_process_that_draws_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    painter, other, end = Painter(), Painter(), tmp_path / "end.png"
    painter.paint("before", tmp_path / "before.png", empty, 1)
    painter.paint("end", end, end_by, signal.SIGKILL, tmp_path / "flag")
    painter.paint("after", tmp_path / "after.png", empty, 1)
    assert [tag for tag, _ in painter.finished(wait=True)] == ["before"]
    painter.paint("dropped", end, empty, 1)
    assert painter.finished(wait=True) == []
    assert {path.name for path in tmp_path.iterdir()} == {"before.png", "flag"}
    (record,) = caplog.records
    assert record.getMessage().startswith("warning: the process that draws was lost")
    painter.start_again()
    painter.paint("end", end, end_by, signal.SIGKILL, tmp_path / "flag")
    other.paint("of another run", tmp_path / "other.png", empty, 1)
    assert [tag for tag, _ in painter.finished(wait=True)] == ["end"]
    assert [tag for tag, _ in other.finished(wait=True)] == ["of another run"]


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_process_that_ended_between_two_pictures_is_as_lost_and_new_at_the_end(
    at_the_end: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    painter = Painter()
    painter.paint("one", tmp_path / "one.png", empty, 1)
    painter.finished(wait=True)
    (drawing,) = mp.active_children()
    drawing.kill()
    while not _pool()._broken:  # seen by the pool, but by no picture
        time.sleep(0.01)
    if at_the_end:
        painter.start_again()
    painter.paint("two", tmp_path / "two.png", empty, 1)
    assert [tag for tag, _ in painter.finished(wait=True)] == (["two"] if at_the_end else [])
    assert len(caplog.records) == (0 if at_the_end else 1)


def test_a_picture_that_needs_too_much_memory_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    painter = Painter()
    painter.paint("large", tmp_path / "large.png", out_of_memory)
    assert painter.finished(wait=True) == []
    assert len(caplog.records) == 1
