"""A place to be and to write, or one line that says that there is none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flowlab.errors import FlowlabError, OutputError


def here() -> str:
    """The working directory; OutputError if it was deleted."""
    try:
        return str(Path.cwd())
    except FileNotFoundError as error:
        raise OutputError("the working directory was deleted; change into another") from error


@contextmanager
def output_errors(place: Callable[[], str]) -> Iterator[None]:
    """Make an OutputError of what stops Hydra from writing into a place, as a full disk.

    Before there is a place, what is raised is no matter of it.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.__cause__ if type(error) is ValueError else error  # logging's own
        if isinstance(reason, FlowlabError | BrokenPipeError) or not (
            isinstance(reason, OSError) and place()
        ):
            raise
        raise OutputError(f"{place()}: cannot be written to ({reason})") from error
