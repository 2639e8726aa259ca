"""python -m flowlab.report FOLDER ..., another name of python -m flowlab report."""

import sys

from flowlab.commands.report import main

if __name__ == "__main__":
    main(sys.argv[1:])
