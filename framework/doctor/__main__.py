"""The command `framework doctor` as `python -m framework.doctor`, which launchers can start."""

import sys

from framework.__main__ import run

if __name__ == "__main__":
    sys.exit(run("doctor", sys.argv[1:]))
