"""`python -m framework.doctor`, also under a launcher: the command `framework doctor`."""

import sys

from framework.__main__ import run

if __name__ == "__main__":
    sys.exit(run("doctor", sys.argv[1:]))
