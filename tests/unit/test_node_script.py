"""`launch/torchrun/node.sh`: what it passes to torchrun from each scheduler's variables, and how it says its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.launch import ROOT

SCRIPT = ROOT / "launch/torchrun/node.sh"
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """In place of the interpreter: prints its arguments and goes on as $DO says."""
    path = tmp_path / "python"
    path.write_text('#!/bin/bash\necho "$@"\necho "RANK=${RANK:-none} PET=${PET_NNODES:-none}"\neval "${DO:-true}"\n')
    path.chmod(0o755)
    return path


def start(python: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    kept = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    return subprocess.Popen(
        [str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=kept | variables,
        preexec_fn=_hear,
    )


def _hear() -> None:
    """The tests may run under nohup or in the background: a shell cannot trap what was ignored when it began."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)


def node(python: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    with start(python, *arguments, **variables) as process:
        text = process.communicate(timeout=30)[0]
    return process.returncode, text


TWO = "--nnodes 2 --node_rank 1 --master_addr first"
SECRET = {"JOB_SECRET_FILE": "job-secret"}
ALONE = "--rdzv_backend authenticated --rdzv_endpoint localhost:0 --rdzv_id training"
MEETING = "--rdzv_backend authenticated --rdzv_endpoint first:29500 --rdzv_id training --rdzv_conf"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, f"{ALONE} --nproc_per_node gpu x.py"),
        ({"PROCESSES_PER_NODE": "2"}, f"{ALONE} --nproc_per_node 2 x.py"),
        ({"NUM_NODES": "2", "NODE_RANK": "1", "MAIN_ADDRESS": "first"}, f"{TWO} --master_port 29500"),
        (
            {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "MAIN_ADDRESS": "first", "MAIN_PORT": "5"},
            f"{TWO} --master_port 5",
        ),
        (
            {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "first", "PET_NPROC_PER_NODE": "auto"},
            f"{TWO} --master_port 29500 --nproc_per_node gpu",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "23456"},
            f"{TWO} --master_port 23456",
        ),
        ({"WORLD_SIZE": "16", "RANK": "1", "PET_NNODES": "2", "MAIN_ADDRESS": "first"}, f"{TWO} --master_port 29500"),
        ({"MAX_RESTARTS": "3"}, f"{ALONE} --max_restarts 3 --nproc_per_node gpu x.py"),
        (
            {"NUM_NODES": "2", "NODE_RANK": "1", "MAIN_ADDRESS": "first", "MAX_RESTARTS": "3"} | SECRET,
            f"--nnodes 2 {MEETING} is_host=false,last_call_timeout=30 --max_restarts 3 --nproc_per_node gpu x.py",
        ),
        (
            {"NUM_NODES": "1:2", "NODE_RANK": "0", "MAIN_ADDRESS": "first", "LOCAL_ADDRESS": "me"} | SECRET,
            f"--nnodes 1:2 {MEETING} is_host=true,last_call_timeout=30 --local_addr me --max_restarts 10",
        ),
        (
            {"NUM_NODES": "1:2", "NODE_RANK": "0", "MAIN_ADDRESS": "first", "MAX_RESTARTS": "0"} | SECRET,
            f"--nnodes 1:2 {MEETING} is_host=true,last_call_timeout=30 --max_restarts 0 --nproc_per_node",
        ),
    ],
    ids=[
        *("alone", "processes", "by hand", "Slurm", "Kubeflow", "early PyTorchJob", "PyTorchJob"),
        *("restarts", "restarts on two", "elastic", "elastic without restarts"),
    ],
)
def test_what_torchrun_is_told(python: Path, tmp_path: Path, variables: dict[str, str], expected: str) -> None:
    status, text = node(python, "x.py", "--out", str(tmp_path), **variables)
    assert status == 0, text
    assert text.startswith("-m framework.rendezvous ")
    assert expected in text
    assert "RANK=none PET=none" in text, "a process would take its machine's rank for its own"


def test_what_is_missing_is_asked_for(python: Path, tmp_path: Path) -> None:
    status, text = node(python, "x.py")
    assert status == 2
    assert "give --out" in text
    status, text = node(python, "x.py", f"--out={tmp_path}", NUM_NODES="4")
    assert status == 2
    assert "NODE_RANK (0 ... 3) and MAIN_ADDRESS" in text
    assert "2:4 machines need NODE_RANK (0 ... 3)" in node(python, "x.py", f"--out={tmp_path}", NUM_NODES="2:4")[1]


@pytest.mark.parametrize("variables", [{"NUM_NODES": "2:4"}, {"NUM_NODES": "2", "MAX_RESTARTS": "1"}])
def test_machines_that_restart_together_need_a_secret(python: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    place = {"NODE_RANK": "1", "MAIN_ADDRESS": "first"}
    status, text = node(python, "x.py", f"--out={tmp_path}", **variables, **place)
    assert status == 2
    assert text.count("\n") == 1
    assert "openssl rand -hex 32 > job-secret) and give JOB_SECRET_FILE" in text
    status, text = node(python, "x.py", f"--out={tmp_path}", **variables, **place, JOB_SECRET="0123456789abcdef" * 4)
    assert status == 0, text
    assert "0123456789abcdef" not in text, "a command line is for everybody's eyes"


def test_statuses(python: Path, tmp_path: Path) -> None:
    assert node(python, "x.py", f"--out={tmp_path}", DO="exit 3")[0] == 3
    status, text = node(python, "x.py", f"--out={tmp_path}", DO="exit 75")  # stopped too early to leave a marker
    assert status == 75
    assert "the same command continues" in text
    marker = tmp_path / "PREEMPTED"
    marker.touch()  # of an earlier start
    assert node(python, "x.py", f"--out={tmp_path}")[0] == 0
    for ended in ("0", "1"):  # torchrun's own status says nothing about a stop
        status, text = node(python, "x.py", f"--out={tmp_path}", DO=f"touch {marker}; exit {ended}")
        assert status == 75
        assert "the same command continues" in text


@pytest.mark.parametrize("number", STOPS)
def test_the_children_of_the_launcher_are_asked_to_stop(python: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The launcher is not: it ends after them, with a status of its own."""
    # A launcher that restarts what has ended is asked itself: see below.
    loop = f'trap "touch {tmp_path}/asked; exit" TERM; touch {tmp_path}/up; while :; do sleep 0.1; done'
    wait = f"bash -c '{loop}'; exit 1"
    with start(python, "x.py", f"--out={tmp_path}", DO=wait) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "up").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        text = process.communicate(timeout=30)[0]
    assert (tmp_path / "asked").exists(), text
    assert process.returncode == 75, "stopped, though it had nothing to save yet"


def test_the_launcher_does_not_hear_sigusr1(python: Path, tmp_path: Path) -> None:
    """Some schedulers send it to every process of a job, and torchrun would die of it."""
    status, text = node(python, "x.py", f"--out={tmp_path}", DO="kill -USR1 $$; echo alive")
    assert status == 0
    assert "alive" in text


def test_a_launcher_that_restarts_is_asked_itself(python: Path, tmp_path: Path) -> None:
    """It would start the processes again if they were asked; and they do not meet at the addresses of dead ones."""
    wait = (
        f"trap 'touch {tmp_path}/asked; exit 1' TERM; echo store=$TORCH_DISABLE_SHARE_RDZV_TCP_STORE > {tmp_path}/up; "
    )
    wait += "while :; do sleep 0.1; done"
    with start(python, "x.py", f"--out={tmp_path}", DO=wait, MAX_RESTARTS="2") as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "up").exists() or not (tmp_path / "up").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert (tmp_path / "up").read_text() == "store=1\n"
    assert (tmp_path / "asked").exists()
    assert process.returncode == 75
