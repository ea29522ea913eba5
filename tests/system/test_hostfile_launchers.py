"""The scripts for Open MPI and pdsh, against stand-ins that treat signals and words as the real ones were seen to do.

Seen with Open MPI 4.1.4 and pdsh 2.34: mpirun hands SIGUSR1 on and kills after SIGTERM; pdsh puts names and numbers for
%h and %n; nothing travels through ssh.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from tests.helpers.launch import ROOT, TINY, environment

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
FLAGS = ("--images", "640", "--log-every-images", "160", "--save-every-images", "100k", "--tracking", "none")

MPIRUN = """#!{python}
import os, signal, subprocess, sys
words, options = sys.argv[1:], {{}}
while words[0].startswith("-"):
    name = words.pop(0)
    value = words.pop(0)
    options.setdefault(name, []).append(value)
assert options["-x"] == ["MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS"], options
world = options["-np"][0]
variables = {{"OMPI_COMM_WORLD_SIZE": world, "OMPI_COMM_WORLD_LOCAL_SIZE": world}}
ranks = [
    subprocess.Popen(
        words, env=os.environ | variables | {{"OMPI_COMM_WORLD_RANK": str(r), "OMPI_COMM_WORLD_LOCAL_RANK": str(r)}}
    )
    for r in range(int(world))
]
signal.signal(signal.SIGUSR1, lambda *_: [rank.send_signal(signal.SIGUSR1) for rank in ranks])
signal.signal(signal.SIGTERM, lambda *_: [rank.kill() for rank in ranks])
sys.exit(max(abs(rank.wait()) for rank in ranks))
"""
PDSH = """#!{python}
import subprocess, sys
words = sys.argv[1:]
machines = words[words.index("-w") + 1].split(",")
command = words[words.index("-w") + 2 :]
runs = [
    subprocess.Popen([w.replace("%h", m).replace("%n", str(n)) for w in command], start_new_session=True)
    for n, m in enumerate(machines)
]
sys.exit(max(run.wait() for run in runs))
"""
SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
shift
exec sh -c "$*"
"""


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("mpirun", MPIRUN), ("pdsh", PDSH), ("ssh", SSH)):
        (folder / name).write_text(text.format(python=sys.executable) if "{python}" in text else text)
        (folder / name).chmod(0o755)
    return environment() | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": sys.executable}


def start(script: str, hostfile: Path, out: Path, log: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        return subprocess.Popen(
            [str(ROOT / script), str(hostfile), str(TINY), *FLAGS, "--out", str(out)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=ROOT,
            start_new_session=True,
        )


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "machines"),
    [
        ("launch/mpi/mpirun.sh", "# one machine\n127.0.0.1 slots=2\n"),
        ("launch/mpi/pdsh.sh", "# two, both here\n127.0.0.1 slots=1\n127.0.0.2 slots=1\n"),
    ],
)
def test_told_to_stop_it_saves_and_the_same_command_continues(
    script: str, machines: str, tmp_path: Path, tools: dict[str, str]
) -> None:
    hostfile, out, log = tmp_path / "hostfile", tmp_path / "run", tmp_path / "log"
    hostfile.write_text(machines)
    process = start(script, hostfile, out, log, tools)
    until(lambda: "160/640" in log.read_text(), process, log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75, log.read_text()
    (saved,) = list_checkpoints(out / "checkpoints")
    assert (out / "PREEMPTED").exists()
    process = start(script, hostfile, out, log, tools)
    assert process.wait(120) == 0, log.read_text()
    assert f"resumed at {saved} images" in log.read_text()
    assert "2 process(es)" in log.read_text()
    print(f"{script}: saved at {saved}, status 75; again: finished, status 0")
