"""What the scripts for machines with ssh hand on, and what they refuse; their ssh is a program that only tells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef" * 4
TOLD = "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done\n"


def start(script: str, folder: Path, machines: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "hostfile").write_text(machines)
    for name in ("pdsh", "mpirun"):
        (folder / name).write_text(TOLD)
        (folder / name).chmod(0o755)
    base = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    return subprocess.run(
        [str(ROOT / script), str(folder / "hostfile"), "x.py", "--out", str(folder / "run")],
        env=base | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": "python"} | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pdsh_hands_on_restarts_and_the_secret_s_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    given = {"MAX_RESTARTS": "3", "LAST_CALL_SECONDS": "7", "JOB_SECRET_FILE": str(tmp_path / "secret")}
    run = start("launch/mpi/pdsh.sh", tmp_path, "a slots=1\nb slots=1\n", **given)
    assert run.returncode == 0, run.stderr
    command = run.stdout.splitlines()[-1]
    for name, value in given.items():
        assert f" {name}={value} " in command
    assert SECRET not in run.stdout
    # Nobody else can have put a file or a link there.
    assert ' NODE_PID_FILE="$HOME"/.framework-node-' in command
    assert "/tmp/framework" not in command


@pytest.mark.parametrize(
    ("script", "variables", "says"),
    [
        ("pdsh.sh", {"MAX_RESTARTS": "3"}, "needs a secret of the job"),
        ("pdsh.sh", {"MAX_RESTARTS": "3", "JOB_SECRET": SECRET}, "give JOB_SECRET_FILE"),
        ("pdsh.sh", {"NUM_NODES": "1:2"}, "NUM_NODES=1:2, but"),
        ("mpirun.sh", {"MAX_RESTARTS": "3"}, "mpirun does not start processes again"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, script: str, variables: dict[str, str], says: str) -> None:
    run = start(f"launch/mpi/{script}", tmp_path, "a slots=1\nb slots=1\n", **variables)
    assert run.returncode == 2
    assert says in run.stderr
    assert SECRET not in run.stderr
    assert run.stdout == ""  # nothing was started


def test_one_machine_needs_no_secret(tmp_path: Path) -> None:
    assert start("launch/mpi/pdsh.sh", tmp_path, "a slots=1\n", MAX_RESTARTS="3").returncode == 0
