"""python -m flowlab report FOLDER ...; extensions=[my_flow] imports modules of one's own first."""

import sys

from flowlab.commands import report
from flowlab.commands.extensions import import_named
from flowlab.errors import ConfigError

COMMANDS = {"report": report.main}


def main(words: list[str]) -> None:
    """Run the command that the first word names."""
    if not words or words[0] not in COMMANDS:
        sys.exit(f"usage: python -m flowlab {'|'.join(COMMANDS)} ...")
    try:
        others = import_named(words[1:])
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    COMMANDS[words[0]](others)


if __name__ == "__main__":
    main(sys.argv[1:])
