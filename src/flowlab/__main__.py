"""python -m flowlab report|sample|score ...; extensions=[my_flow] imports modules of one's own."""

import sys

from flowlab import signals
from flowlab.commands.extensions import import_named
from flowlab.errors import ConfigError

USAGE = """usage: python -m flowlab report FOLDER ... [-o FOLDER]   (or of two runs: report A B)
       python -m flowlab sample RUN -n 10000 [-o samples.csv] [--seed 0] [--given c=1.5] ...
       python -m flowlab score RUN new.csv [-o scores.parquet] ..."""


def main(words: list[str]) -> None:
    """Run the command that the first word names."""
    signals.leave_at_once()
    command, others = (words or [""])[0], words[1:]
    if command in ("-h", "--help"):
        print(USAGE)
        return
    if command not in ("report", "sample", "score"):
        print(USAGE, file=sys.stderr)
        sys.exit(ConfigError.exit_code)
    try:
        others = import_named(others)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if command == "report":
        from flowlab.commands import report

        report.main(others)
    elif command == "sample":
        from flowlab.commands import sample

        sample.main(others)
    else:
        from flowlab.commands import score

        score.main(others)


if __name__ == "__main__":
    main(sys.argv[1:])
