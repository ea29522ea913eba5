"""A small share of `python -m tests.fuzz --cases 5000`, with the same cases on every machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_no_reader_fails_on_foreign_bytes() -> None:
    """In a process of its own: the cases run in forks of it, which threads of a test run would not survive."""
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "60"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
