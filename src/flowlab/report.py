"""python -m flowlab.report FOLDER ..., another name of python -m flowlab report."""

import sys

from flowlab.__main__ import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
