"""A process that draws pictures, so that the training does not wait for them.

It imports matplotlib but not torch, and there is one for the whole program.
"""

import atexit
import gc
import io
import logging
import multiprocessing as mp
import multiprocessing.util
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from matplotlib.figure import Figure

from flowlab import signals
from flowlab.files import clear_parts, write_whole

log = logging.getLogger(__name__)

# what becomes a PNG, or is a GIF already
Plot = Callable[..., Figure | bytes]


class Painter:
    """Draws pictures one after the other, in the background if a module has what draws them.

    `paint` returns at once. `finished` gives the pictures that are done, as (tag, bytes) and in the
    order in which they were asked for; an exception in drawing is raised there.

    A process that is killed, or that has not enough memory, is no reason to end a training: one
    line says so, what was asked for is dropped, and so is what comes until `start_again`.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[Any, Path, Future[bytes]]] = deque()
        self._lost = False

    def start_again(self) -> None:
        """Try once more with a new process, if the last one was lost, or has ended unnoticed."""
        self._lost = False
        try:
            if _pool.cache_info().currsize:
                _pool().submit(abs, 0)  # says whether it has
        except BrokenExecutor:
            _stop()

    def paint(self, tag: Any, path: Path, plot: Plot, *args: Any) -> None:
        """Draw plot(*args), save it at `path` and keep it for `finished` under `tag`."""
        if self._lost:
            return
        if plot.__module__ == "__main__":  # which that process does not know
            done: Future[bytes] = Future()
            done.set_result(_paint(path, plot, args))
            self._pending.append((tag, path, done))
            return
        try:
            self._pending.append((tag, path, _pool().submit(_paint, path, plot, args)))
        except (BrokenExecutor, OSError):  # it has ended, or cannot begin
            self._lose(path)

    def finished(self, wait: bool = False) -> list[tuple[Any, bytes]]:
        """The pictures that are done, in order; with `wait`, all of them."""
        done = []
        while self._pending and (wait or self._pending[0][-1].done()):
            tag, path, future = self._pending.popleft()
            try:
                done.append((tag, future.result()))
            except (BrokenExecutor, MemoryError):
                self._lose(path)
        return done

    def cancel(self) -> None:
        """Drop what is not drawn yet."""
        for *_, future in self._pending:
            future.cancel()

    def _lose(self, path: Path) -> None:
        log.warning(
            "warning: the process that draws was lost, killed perhaps or out of memory; "
            "pictures are missing, the run goes on"
        )
        self._lost = True
        self.cancel()
        for each in (path, *(path for _, path, _ in self._pending)):
            clear_parts(each)
        self._pending.clear()
        _stop()


def start() -> None:
    """Start the process ahead of the first picture, so that its imports run beside others."""
    with suppress(OSError):  # the first picture says so
        _pool()


@cache
def _pool() -> ProcessPoolExecutor:
    if mp.get_start_method(allow_none=True) == "loky":  # joblib's, which a new process cannot find
        mp.set_start_method("spawn", force=True)
    with signals.kept_from_children():  # starts a process too, that looks after semaphores
        pool = ProcessPoolExecutor(1, mp.get_context("spawn"), initializer=_initialise)
    # a process that multiprocessing started, as joblib's are, would wait for the pool's at its end;
    # the priority is above that of the pool's queues
    mp.util.Finalize(None, pool.shutdown, exitpriority=100)
    # signals are the training's business, and a script that trains is not to be run once more
    with signals.kept_from_children(), _without_main():
        pool.submit(gc.freeze)
    return pool


def _stop() -> None:
    """Do without the process, if there is one, so that the next picture starts another."""
    if _pool.cache_info().currsize:
        _pool().shutdown(wait=False)
        _pool.cache_clear()


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the program's script, as multiprocessing has them do."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _initialise() -> None:
    os.nice(5)  # where trainings fill all cores, pictures can wait
    # numpy's, about the zeros of mplot3d's matrices on some processors
    warnings.filterwarnings("ignore", "overflow encountered in dot")
    _leave_with_parent()
    atexit.register(os._exit, 0)  # at once: the program waits for this process at its end


def _leave_with_parent() -> None:
    """Watch the process that started this one, and end at once when it does."""
    parent = mp.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _paint(path: Path, plot: Plot, args: tuple[Any, ...]) -> bytes:
    drawn = plot(*args)
    if isinstance(drawn, Figure):
        png = io.BytesIO()
        drawn.savefig(png, format="png", pil_kwargs={"compress_level": 1})
        drawn = png.getvalue()
    write_whole(path, drawn)
    return drawn
