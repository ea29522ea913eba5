"""Runs recipe files and `framework` commands one after the other in one process, which imports torch once.

The command line is a JSON list of command lines: `[["my_recipe.py", "--out", "run"], ["framework", "sample", "run"]]`.
The first that fails ends the process with its status.
"""

from __future__ import annotations

import json
import runpy
import sys

from framework.__main__ import run


def main(lines: list[list[str]]) -> None:
    for program, *arguments in lines:
        print(f"== {program} {' '.join(arguments)}", flush=True)
        if program == "framework":
            if status := run(arguments[0], arguments[1:]):
                sys.exit(status)
        else:
            sys.argv = [program, *arguments]
            runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
