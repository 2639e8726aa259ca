"""What can end a run before its time: one class and one exit code for each kind.

The message is one line that names the key or file, what was got, what is allowed and what to do.
Exit codes 130, 143 and 129, after SIGINT, SIGTERM and SIGHUP, come as SystemExit.
"""


class FlowlabError(Exception):
    """Base of all; a mistake of the user's or of the machine's, not of the program's."""

    exit_code = 1


class Finished(FlowlabError):  # noqa: N818
    """The run to go on with has nothing left to do: no error at all."""

    exit_code = 0


class ConfigError(FlowlabError, ValueError):
    """A configuration that makes no sense."""

    exit_code = 2


class DataError(FlowlabError, ValueError):
    """Data that cannot be learned from."""

    exit_code = 3


class ModelFileError(FlowlabError, ValueError):
    """A flow.safetensors or .ckpt that is damaged, foreign, or too new."""

    exit_code = 4


class NonFiniteError(FlowlabError, ArithmeticError):
    """A training that left the finite numbers."""

    exit_code = 5


class OutputError(FlowlabError, OSError):
    """A run directory that cannot be written to, or is not this run's to write to."""

    exit_code = 6


class SweepError(FlowlabError):
    """A sweep of which some runs failed."""

    exit_code = 1


def printable(text: object) -> str:
    """Text without the signs that a terminal would obey, or cannot show."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text))


def one_line(text: object, most: int | None = None) -> str:
    r"""Text as one line of printable signs, cut after so many.

    >>> one_line("a\n\x1b[2Jb"), one_line("abcdefg", 5)
    ('a [2Jb', 'abcd…')
    """
    said = str(text) if most is None else str(text)[: 10 * most]
    line = " ".join(printable(said).split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"
