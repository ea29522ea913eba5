"""The right of one process: given up at every kind of death, not kept by forked children, seen by who may only read."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framework.data.errors import DataError
from framework.data.packing.staging import Staging
from framework.tracking.lock import WriterLock, writer_is_alive
from framework.utils.errors import FrameworkError
from framework.utils.locks import ProcessLock, is_held

HOLDER = """
import os, sys, time
from pathlib import Path
from framework.utils.locks import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
assert lock.take()
child = os.fork() if sys.argv[2] == "fork" else -1
if child:
    print(child, flush=True)
time.sleep(600)
"""


@contextmanager
def holder(path: Path, *, fork: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Another process with the lock, and its child."""
    command = [sys.executable, "-c", HOLDER, str(path), "fork" if fork else "alone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if fork:
                os.kill(child, signal.SIGKILL)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with holder(path) as (process, _):
        assert is_held(path)
        assert not ProcessLock(path).take()
        process.kill()
        process.wait()
        assert not is_held(path)
        with ProcessLock(path) as lock:
            assert lock.take()
            assert is_held(path)
    assert not is_held(path)


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", fork=True) as (process, child):
        process.kill()
        process.wait()
        os.kill(child, 0)  # it is alive
        deadline = time.monotonic() + 10  # the child may not have had its turn yet
        while is_held(tmp_path / "lock") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_held(tmp_path / "lock")
        assert ProcessLock(tmp_path / "lock").take()


def test_a_look_is_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training starts although a reader looks, with its shared lock, at the same moment."""
    path, flock, refusals = tmp_path / "lock", fcntl.flock, []
    with open(path, "wb") as reader, ProcessLock(path) as lock:
        flock(reader, fcntl.LOCK_SH)

        def busy_once(fd: int, operation: int) -> None:
            try:
                flock(fd, operation)
            except BlockingIOError:
                refusals.append(operation)
                flock(reader, fcntl.LOCK_UN)
                raise

        monkeypatch.setattr("fcntl.flock", busy_once)
        assert lock.take()
    assert len(refusals) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_it_guards_nothing_and_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    with ProcessLock(tmp_path / "lock") as lock:
        assert lock.take()
        assert not lock.guards
        assert not is_held(tmp_path / "lock")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"], "a marker that nobody would take back"


def test_its_file_has_the_user_s_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with ProcessLock(tmp_path / "lock") as lock:
            assert lock.take()
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664


def test_sentences(tmp_path: Path) -> None:
    with holder(tmp_path / "journal.lock"):
        assert writer_is_alive(tmp_path / "journal.lock")
        with pytest.raises(FrameworkError, match="another process is training in"):
            WriterLock(tmp_path / "journal.lock", run_folder=tmp_path)
    own = WriterLock(tmp_path / "journal.lock", run_folder=tmp_path)
    with pytest.raises(FrameworkError, match="already being written by this process"):
        WriterLock(tmp_path / "journal.lock", run_folder=tmp_path)
    own.release()
    own.release()
    assert not writer_is_alive(tmp_path / "journal.lock")
    (tmp_path / ".shards.part").mkdir()
    with (
        holder(tmp_path / ".shards.part/packing.lock"),
        pytest.raises(DataError, match="another process is packing to this folder"),
    ):
        Staging(tmp_path / "shards", request="r")
