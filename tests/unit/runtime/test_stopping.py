"""A process that is told to stop before its first step ends at once, with the status of a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from framework.runtime.signals import StopVote
from framework.runtime.stopping import STOP_SIGNALS, STOPPED, tell_launcher
from tests.helpers.launch import environment

WAITS = """
import ctypes
from framework.runtime.stopping import end_on_signals
end_on_signals(leave=lambda: open("left", "w").close())
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
print("up", lock(mutex), flush=True)
lock(mutex)  # for ever, and unlike a sleep not ended by a signal
"""
FORKS = """
import os, signal
from framework.runtime.stopping import end_on_signals
end_on_signals()
if child := os.fork():
    import time
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    time.sleep(0.5)
else:
    import time
    time.sleep(30)
"""
ORPHANS = """
import ctypes, os
from framework.runtime.stopping import end_on_signals, end_with_launcher
end_on_signals(leave=lambda: open("left", "w").close())
end_with_launcher(os.getppid())
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
lock(mutex)
open("waits", "w").close()
lock(mutex)  # as for processes that never come to the meeting
"""
LAUNCHES = (
    "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]]).pid, flush=True); input()"
)
VOTES = """
import os, signal, time
from framework.runtime.signals import StopVote
from framework.runtime.stopping import end_on_signals
end_on_signals()
for number in (signal.SIGTERM, signal.SIGUSR1):
    with StopVote(world=1).listening() as stop:
        os.kill(os.getpid(), number)
        assert stop.poll()
time.sleep(0.5)
print("saved")
"""
PROGRAM = """
import signal, sys
import framework
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
if sys.argv[1:]:
    {uses}
"""


def hear() -> None:
    """The tests may run in the background, where a shell lets its commands ignore SIGINT."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_also_while_the_main_thread_waits_inside_a_library(tmp_path: Path, number: signal.Signals) -> None:
    """Python's own handlers would run when the library returns, which it never does here."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json"), "RANK": "0"},
        preexec_fn=hear,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up 0\n"
    time.sleep(0.5)  # now it waits; earlier, Python's own handler would do
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == STOPPED
    assert errors == f"stopped by {number.name}; the same command continues\n"
    assert (tmp_path / "left").exists()
    told = json.loads((tmp_path / "error.json").read_text())["message"]
    assert told["message"] == told["extraInfo"]["py_callstack"] == errors.strip()


def test_what_happens_to_a_forked_child_happens_to_it_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{-signal.SIGTERM}\n"), done.stderr


@pytest.mark.parametrize(("uses", "untouched"), [("framework.launch", "False"), ("framework.Recipe", "True")])
def test_only_a_program_that_launches_is_changed_by_an_import(tmp_path: Path, uses: str, untouched: str) -> None:
    """Not a library, a command line, a notebook or a test."""
    (tmp_path / "program.py").write_text(PROGRAM.format(uses=uses))
    for command, expected in (([str(tmp_path / "program.py")], untouched), (["-c", "import program"], "True")):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, timeout=60, preexec_fn=hear
        )
        assert done.stdout.split() == [expected], done.stderr


def test_without_a_launcher_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    tell_launcher("nobody listens")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "no/such/folder/error.json"))
    tell_launcher("the folder has gone")


def test_torch_reads_what_the_launcher_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    tell_launcher("one sentence")
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(file))
    assert "traceback : one sentence\n====" in str(ChildFailedError("x.py", {0: failure}))


def test_a_run_stops_when_its_launcher_has_ended_and_only_then(caplog: pytest.LogCaptureFixture) -> None:
    with StopVote(world=1, launcher=os.getppid()).listening() as stop:
        assert not stop.poll()
    with StopVote(world=1, launcher=2**22 + 1).listening() as stop:  # larger than any process id
        assert stop.poll()
        assert stop.poll()
    assert caplog.text.count("has ended: saving and stopping") == 1
    with StopVote(world=1).listening() as stop:
        assert not stop.poll()


def test_a_signal_that_a_vote_has_heard_is_not_heard_again() -> None:
    """The thread beside the main one may wake up after the vote, when signals would end the process again."""
    done = subprocess.run([sys.executable, "-c", VOTES], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "saved\n"), done.stderr


def test_a_process_that_waits_for_others_ends_with_its_launcher(tmp_path: Path) -> None:
    """Found by `benchmarks.kills`: killed during start-up, a launcher left ranks that waited for each other."""
    with (tmp_path / "log").open("w") as log:
        launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHES, ORPHANS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=tmp_path,
            env=environment(),
        )
    assert launcher.stdout is not None
    orphan = psutil.Process(int(launcher.stdout.readline()))
    while not (tmp_path / "waits").exists():
        assert orphan.is_running()
        time.sleep(0.02)
    launcher.kill()
    _, alive = psutil.wait_procs([orphan], timeout=30)
    for process in alive:
        process.kill()
    launcher.communicate()
    assert not alive
    assert (tmp_path / "left").exists()
    assert (tmp_path / "log").read_text() == "stopped: the launcher has ended; the same command continues\n"
