"""Keep the findings of a session under benchmarks/results/gpu/<card>/, one file per item.

    python -m benchmarks.gpu.keep runs/gpu

An item's file replaces the card's earlier one. Rehearsals on a CPU are refused: they say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from benchmarks.gpu.findings import SUFFIX, read_findings
from framework.utils.errors import FrameworkError

RESULTS = Path(__file__).parents[1] / "results" / "gpu"


def main() -> None:
    """Copy, and name the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("session", type=Path, help="the --out of python -m benchmarks.gpu")
    try:
        for path in keep(parser.parse_args().session, RESULTS):
            print(path)
    except FrameworkError as error:
        sys.exit(f"keep: {error}")


def keep(session: Path, results: Path) -> list[Path]:
    """The kept files.

    Raises:
        FrameworkError: the session does not tell its card, or had none.
    """
    named = [str(finding["device"]) for finding in read_findings(session, item="machine") if "device" in finding]
    if not named:
        raise FrameworkError(f"{session}: does not say which card it was; add it with `--only machine` on that machine")
    if named[0] == "cpu":
        raise FrameworkError(f"{session}: was a rehearsal on a CPU; only sessions on a GPU are kept")
    folder = results / re.sub(r"[^a-z0-9]+", "-", named[0].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(path, folder / path.name)) for path in sorted(session.glob(f"*{SUFFIX}"))]


if __name__ == "__main__":
    main()
