"""What a terminal can show."""

import codecs
import io
import sys


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
