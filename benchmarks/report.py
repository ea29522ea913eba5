"""What benchmarks share: a command line with `--json`, a standard output for the report alone, and the report."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table


def command_line(description: str | None) -> argparse.ArgumentParser:
    """Of a benchmark; the text of its module is the help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    return parser


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """What DeepSpeed prints in the processes started here goes to stderr, so that stdout holds the report alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def show(figures: Any, *tables: Table, as_json: bool, width: int | None = None) -> None:
    """Print the figures as JSON, or the tables made of them (`width` in characters; None: the terminal's)."""
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    console = Console(width=width)
    for table in tables:
        console.print(table)
