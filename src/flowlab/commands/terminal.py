"""What a terminal can show, and is told: one line and an exit code for what ends a command."""

import codecs
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flowlab.errors import ConfigError, Finished, FlowlabError, OutputError, one_line

INSTALLED = "flowlab train"  # what the command is called without a train.py
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "0")  # as the user has it


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with one line for what ends a command; HYDRA_FULL_ERROR=1 has the traceback before it.

    A reader that has enough, as of `| head`, is no error.
    """
    print_anywhere()
    code: int | str | None = None
    try:
        yield
    except SystemExit as stop:
        code = stop.code
    except BrokenPipeError:
        pass
    except Finished as finished:
        print(finished)
    except Exception as error:
        code = tell(error)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # what fails here would at the program's end have Python's own words
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            reason = f"standard output: cannot be written to ({error.strerror})"
            code = code or tell(OutputError(reason))
    if code:
        sys.exit(code)


def tell(error: Exception) -> int:
    """Say what ended a command, in one line; returns its exit code."""
    if FULL_ERROR == "1":
        traceback.print_exception(error)
    code = error.exit_code if isinstance(error, FlowlabError) else FlowlabError.exit_code
    line = str(error)
    if not isinstance(error, FlowlabError):
        line = bug(error, logged(error) or "that HYDRA_FULL_ERROR=1 shows")
    print("error:", as_called(one_line(line)), file=sys.stderr)
    return code


def bug(error: Exception, where: str) -> str:
    """What is said of an error that nobody has thought of."""
    said = one_line(f"{type(error).__name__}: {error}", 300)
    return f"{said}; a bug: please report it, with the traceback {where}"


def logged(error: Exception) -> str:
    """Write a traceback into the run's log, and return where that is; nothing without a log."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            with suppress(OSError), open(handler.baseFilename, "a", encoding="utf-8") as file:
                traceback.print_exception(error, file=file)
                return f"in {os.path.relpath(handler.baseFilename)}"
    return ""


def check_bars() -> None:
    """Raise ConfigError for a variable of the environment that tqdm cannot be imported with."""
    try:
        import tqdm  # noqa: F401
    except ValueError as error:
        names = ", ".join(name for name in os.environ if name.startswith("TQDM_"))
        raise ConfigError(f"{names}: tqdm cannot read it ({error}); unset it") from error


def print_anywhere() -> None:
    """Print something like it where the terminal's encoding lacks a sign: +- for ±, else a ?."""

    def substitute(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        signs = error.object[error.start : error.end]
        return "".join("+-" if sign == "±" else "?" for sign in signs), error.end

    codecs.register_error("flowlab", substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="flowlab")


def as_called(text: str) -> str:
    """A text on `python train.py`, with the command as it was called."""
    return text.replace("python train.py", INSTALLED) if sys.argv[0] == INSTALLED else text
