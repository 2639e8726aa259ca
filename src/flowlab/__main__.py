"""python -m flowlab train|report|sample|score ..., or flowlab alone where it is installed."""

import sys

from flowlab import signals
from flowlab.commands.extensions import import_named
from flowlab.errors import ConfigError

USAGE = """usage: python -m flowlab train num_flows=8 ...   (python train.py, from anywhere)
       python -m flowlab report FOLDER ... [-o FOLDER]   (or of two runs: report A B)
       python -m flowlab sample RUN -n 10000 [-o samples.csv] [--seed 0] [--given c=1.5] ...
       python -m flowlab score RUN new.csv [-o scores.parquet] ..."""


def main(words: list[str] | None = None) -> None:
    """Run the command that the first word, of the command line if none are given, names.

    extensions=[my_flow] imports modules of one's own.
    """
    signals.leave_at_once()
    words = sys.argv[1:] if words is None else words
    command, others = (words or [""])[0], words[1:]
    if command in ("-h", "--help"):
        print(USAGE)
    elif command == "train":
        from flowlab.commands.start import conf, start
        from flowlab.commands.terminal import INSTALLED

        sys.argv = [INSTALLED, *others]  # where Hydra finds them
        start(conf())
    elif command in ("report", "sample", "score"):
        _use(command, others)
    else:
        print(USAGE, file=sys.stderr)
        sys.exit(ConfigError.exit_code)


def _use(command: str, words: list[str]) -> None:
    """Run a command on what has been trained."""
    try:
        words = import_named(words)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if command == "report":
        from flowlab.commands import report

        report.main(words)
    elif command == "sample":
        from flowlab.commands import sample

        sample.main(words)
    else:
        from flowlab.commands import score

        score.main(words)


if __name__ == "__main__":
    main()
