"""Advice about the run folder: each fault is made and must be seen."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from framework.doctor import folder
from framework.doctor.finding import Finding


def found(out: Path) -> dict[str, Finding]:
    return {finding.area: finding for finding in folder.run_folder(out)}


def test_a_folder_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    report = found(tmp_path / "runs" / "a")
    assert str(tmp_path) in report["run folder"].value
    assert report["atomic rename"].level == report["file locks"].level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_nothing_can_be_written() -> None:
    report = found(Path("/proc/self/runs"))  # root, too, cannot make folders there
    assert report["run folder"].level == "fail"
    assert "--out" in report["run folder"].advice
    assert list(report) == ["run folder"]


def test_the_space_that_is_left_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free_gib, level in ((100, "ok"), (5, "warn"), (0.5, "fail")):
        usage = (200 << 30, 0, int(free_gib * (1 << 30)))
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: _Usage(*usage))
        assert folder.space(tmp_path).level == level


class _Usage:
    def __init__(self, total: int, used: int, free: int) -> None:
        self.total, self.used, self.free = total, used, free


def test_a_slow_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: (time.sleep(0.2), fsync(fd)))
    slow = folder.speed(tmp_path, num_bytes=2 << 20)  # 2 MB in more than 0.2 s
    assert slow.level == "warn"
    assert "save less often" in slow.advice


def test_a_rename_that_is_a_copy_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What object stores behind a file system's face do."""

    def copy(source: Path, target: Path) -> None:
        content = source.read_bytes()
        with target.open("wb") as file:
            file.write(content[:100])
            file.flush()
            time.sleep(0.005)
            file.write(content[100:])
        source.unlink()

    monkeypatch.setattr("os.replace", copy)
    torn = folder.renames(tmp_path, times=50)
    assert torn.level == "fail"
    assert torn.value == "half a file was seen"
    assert "POSIX" in torn.advice


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    unseen = folder.locks(tmp_path)
    assert unseen.level == "warn"
    assert "never start two launches" in unseen.advice


def test_a_container_s_own_layer_does_not_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "file_system", lambda path: "overlay")
    assert "gone with the container" in folder.kind(tmp_path).advice
