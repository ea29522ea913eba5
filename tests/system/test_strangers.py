"""A stranger who reaches the port that machines meet at runs no code there and is no machine of the job."""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import pickle
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from framework.rendezvous.store import AuthenticatedStore
from framework.utils.errors import FrameworkError
from tests.helpers.launch import ROOT, environment, free_port

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

KEY = "torch.rendezvous.training"
PROGRAM = """
import os, sys, time
import torch.distributed as dist
dist.init_process_group("gloo")
print("world", dist.get_world_size(), "secret", "JOB_SECRET" in os.environ, flush=True)
time.sleep(float(sys.argv[1]))
dist.barrier()
dist.destroy_process_group()
"""


class Payload:
    """What a stranger wants to have unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@contextlib.contextmanager
def machine(
    rank: int, command: list[str], *, port: int, folder: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher under way; it and its processes end with the block."""
    place = {"NUM_NODES": "1:2", "NODE_RANK": str(rank), "MAIN_ADDRESS": "localhost", "MAIN_PORT": str(port)}
    own = {"LOCAL_ADDRESS": "localhost", "PROCESSES_PER_NODE": "1", "PYTHON": sys.executable}
    base = environment() | {"GLOO_SOCKET_IFNAME": "lo", "LAST_CALL_SECONDS": "5"}
    with (folder / f"machine{rank}.log").open("w") as log:
        process = subprocess.Popen(
            command, env=base | place | own | variables, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def attack(port: int, marker: Path, *, until: threading.Event) -> list[str]:
    """All that a stranger without the secret can try, again and again; what came of each try."""
    payload = base64.b64encode(pickle.dumps(Payload(marker))).decode()
    said: list[str] = []
    wrong = secrets.token_hex(32).encode()
    while not until.is_set():
        try:  # torch's own client, against torch's own server the whole attack
            store = TCPStore("localhost", port, is_master=False, timeout=datetime.timedelta(seconds=1))
            store.set(KEY, payload)
            said.append("written")
        except (RuntimeError, ValueError) as error:
            said.append(type(error).__name__)
        try:
            AuthenticatedStore("localhost", port, secret=wrong, timeout_seconds=1).set(KEY, payload)
            said.append("written")
        except (OSError, RuntimeError, FrameworkError) as error:
            said.append(type(error).__name__)
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1) as line:
            line.sendall(secrets.token_bytes(4096))
        time.sleep(0.2)
    return said


@contextlib.contextmanager
def under_attack(port: int, marker: Path) -> Iterator[list[str]]:
    """A stranger at work in the background; the list is filled when the block ends."""
    until, said = threading.Event(), []
    thread = threading.Thread(target=lambda: said.extend(attack(port, marker, until=until)))
    thread.start()
    try:
        yield said
    finally:
        until.set()
        thread.join()


def test_torch_s_own_meeting_place_runs_the_code_of_anybody(tmp_path: Path) -> None:
    """The control: the attack works where nothing keeps it out."""
    program, marker, port = tmp_path / "program.py", tmp_path / "owned", free_port()
    program.write_text(PROGRAM)
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"localhost:{port}", "--rdzv_id", "training"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2:2", "--rdzv_conf", "is_host=true"]
    deadline = time.monotonic() + 90
    with (
        machine(0, [*torchrun, *meeting, str(program), "0"], port=port, folder=tmp_path),
        under_attack(port, marker) as said,
    ):
        while not marker.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert "written" in said
    assert marker.exists()


def test_a_stranger_runs_no_code_and_changes_no_membership(tmp_path: Path) -> None:
    program, marker, port = tmp_path / "program.py", tmp_path / "owned", free_port()
    program.write_text(PROGRAM)
    out = tmp_path / "out"
    out.mkdir()
    # The second machine comes late: the first is attacked while it waits, then while both work.
    command = [str(ROOT / "launch/torchrun/node.sh"), str(program), "5", "--out", str(out)]
    secret = {"JOB_SECRET": secrets.token_hex(32), "NUM_NODES": "2:2"}
    with machine(0, command, port=port, folder=tmp_path, **secret) as first, under_attack(port, marker) as said:
        time.sleep(8)
        with machine(1, command, port=port, folder=tmp_path, **secret) as second:
            assert [first.wait(120), second.wait(60)] == [0, 0], (tmp_path / "machine0.log").read_text()
    assert not marker.exists()
    assert "written" not in said
    print(f"{len(said)} tries: {sorted(set(said))}")
    for rank in (0, 1):
        text = (tmp_path / f"machine{rank}.log").read_text()
        assert "world 2 secret False" in text, "the processes do not inherit it"
        assert secret["JOB_SECRET"] not in text
    assert "does not know the job's secret" in (tmp_path / "machine0.log").read_text()


def test_a_machine_with_another_secret_does_not_get_in(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    out.mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [str(ROOT / "launch/torchrun/node.sh"), str(tmp_path / "program.py"), "12", "--out", str(out)]
    with machine(0, command, port=port, folder=tmp_path, JOB_SECRET=secrets.token_hex(32)) as first:
        with machine(1, command, port=port, folder=tmp_path, JOB_SECRET=secrets.token_hex(32)) as second:
            assert second.wait(60) == 1
        assert first.wait(120) == 0
    assert "world 1 secret False" in (tmp_path / "machine0.log").read_text()
    said = (tmp_path / "machine1.log").read_text()
    assert "error: machine 0 at localhost" in said or "does not take this machine's secret" in said
    assert "Traceback" not in said
