"""What SIGINT, SIGTERM and SIGHUP do, from the first line to the last: nobody else sets it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
    SIGNALS.append(signal.SIGHUP)
EXIT_CODES = [128 + signum for signum in SIGNALS]
UNDER_SUBMITIT = "SUBMITIT_EXECUTOR" in os.environ  # which answers Slurm's SIGTERM by itself


def leave_at_once() -> None:
    """Have signals end the program on the spot: there is nothing to save yet."""
    for signum in SIGNALS:
        signal.signal(signum, lambda number, frame: os._exit(128 + number))


def leave_by_exception() -> None:
    """Have signals end the program by KeyboardInterrupt, or by SystemExit with 143 or 129."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in SIGNALS[1:]:
        if not (UNDER_SUBMITIT and signum == signal.SIGTERM):
            signal.signal(signum, _exit)


def _exit(signum: int, frame: FrameType | None) -> None:
    if signum == signal.SIGHUP:  # of which a closed terminal sends several
        signal.signal(signum, signal.SIG_IGN)
        _leave_lost_terminal()
    sys.exit(128 + signum)


def _leave_lost_terminal() -> None:
    """Speak to nobody if the terminal is gone, for writing to it is an error."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def ignore() -> None:
    """Finish in peace: torchrun ends all processes as soon as one has ended with an error."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def end_by_sigterm() -> None:
    """Let SIGTERM end this process as the system does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def as_the_system_does() -> Iterator[None]:
    """Have signals end the program at once, for what waits deaf to Python; ignored at an error."""
    handlers = {signum: signal.signal(signum, signal.SIG_DFL) for signum in SIGNALS}
    try:
        yield
    except BaseException:
        ignore()
        raise
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Start processes that signals do not reach, for they inherit what is blocked here."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Noted:
    """Signals are noted, as `signum`, from `start` to `stop`; a second one ends the program."""

    def __init__(self) -> None:
        self.signum = 0
        self.handlers: dict[int, Any] = {}

    def start(self) -> None:
        """Begin to note signals, in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.handlers = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        heeded = SIGNALS[:2]  # not SIGHUP, of which a closed terminal sends several
        if UNDER_SUBMITIT:  # Slurm's warning, before it asks to requeue
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            heeded = SIGNALS[:1]
        reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        threading.Thread(target=_exit_at_the_second, args=(reader, heeded), daemon=True).start()

    def stop(self) -> None:
        """Give signals back to who had them before."""
        if self.handlers:
            signal.set_wakeup_fd(-1)
            os.close(self.writer)
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        self.handlers.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            _leave_lost_terminal()
        self.signum = signum


def _exit_at_the_second(reader: int, heeded: list[signal.Signals]) -> None:
    """Watch from a thread: Python calls handlers only when a batch's long operations are done."""
    with os.fdopen(reader, "rb", buffering=0) as signals:
        seen = 0
        while signum := signals.read(1):
            seen += signum[0] in heeded
            if seen == 2:
                os._exit(128 + signum[0])
