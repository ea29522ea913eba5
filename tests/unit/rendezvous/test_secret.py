"""Where the secret of a job comes from, and which are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from framework.rendezvous.secret import take_secret
from framework.utils.errors import FrameworkError
from tests.helpers.launch import environment

GOOD = "0123456789abcdef" * 2


def test_a_value_or_a_file_and_the_value_is_taken_out(tmp_path: Path) -> None:
    variables = {"JOB_SECRET": GOOD, "OTHER": "stays"}
    assert take_secret(variables) == GOOD.encode()
    assert variables == {"OTHER": "stays"}
    path = tmp_path / "job-secret"
    path.write_text(f"{GOOD}\n")
    path.chmod(0o640)
    assert take_secret({"JOB_SECRET_FILE": str(path)}) == GOOD.encode()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "openssl rand -hex 32"),
        ({"JOB_SECRET": ""}, "openssl rand -hex 32"),
        ({"JOB_SECRET": "training"}, "JOB_SECRET: the secret has 8 characters"),
        ({"JOB_SECRET_FILE": "absent"}, "absent cannot be read"),
        ({"JOB_SECRET_FILE": "empty"}, "0 characters"),
        ({"JOB_SECRET_FILE": "open"}, "chmod o-r"),
        ({"JOB_SECRET_FILE": "folder"}, "folder"),
    ],
)
def test_what_is_no_secret(
    variables: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name, text, mode in (("empty", "", 0o600), ("open", GOOD, 0o644)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    with pytest.raises(FrameworkError, match=says):
        take_secret(dict(variables))


def test_the_launcher_says_it_in_one_line() -> None:
    command = [sys.executable, "-m", "framework.rendezvous", "--rdzv_backend", "authenticated", "--nnodes", "1:2", "x"]
    kept = {name: value for name, value in environment().items() if not name.startswith("JOB_SECRET")}
    done = subprocess.run(command, capture_output=True, text=True, env=kept, cwd=os.sep)
    assert done.returncode == 2
    assert done.stderr.startswith("error: machines that restart together need a secret of the job")
    assert done.stderr.count("\n") == 1
