"""python -m flowlab report FOLDER ..."""

import sys

from flowlab.commands import report

COMMANDS = {"report": report.main}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python -m flowlab {'|'.join(COMMANDS)} ...")
    COMMANDS[sys.argv[1]](sys.argv[2:])
