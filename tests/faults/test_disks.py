"""Disks that fail under a whole launch of two processes: full, read-only, and slow to show others' files.

Training goes on after one failed save and stops at the second in a row; the last good checkpoint stays, and the same
command continues when there is room (docs/decisions/012-elastic.md).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from framework.tracking.records import read_journal
from tests.faults.conftest import UNDISTURBED
from tests.helpers.launch import ROOT, TINY, Launch, run, unequal

pytestmark = [pytest.mark.distributed, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]
FULL = "No space left on device; the disk is full"
long = pytest.mark.skipif("FRAMEWORK_TEST_NODES" not in os.environ, reason="a minute long; set FRAMEWORK_TEST_NODES=1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    _mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount))
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system here: {getattr(error, 'stderr', None) or error}")


def fill(disk: Path) -> Path:
    """Take all that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def checkpoints(out: Path) -> list[int]:
    return list_checkpoints(out / "checkpoints")


@long
def test_a_full_disk(small_disk: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Full for one save: nothing is lost. Full for two: stopped with the reason, and the same command continues."""
    out = small_disk / "run"
    flags = (*UNDISTURBED, "--keep-last", "2", "--out", str(out))
    with Launch(TINY, *flags, log=tmp_path / "full.log") as launch:
        launch.until(lambda: 320 in checkpoints(out))
        filler = fill(small_disk)
        launch.until(lambda: "cannot write checkpoint" in launch.text())
        failed = int(re.search(r"cannot write checkpoint (\d+)", launch.text())[1])  # type: ignore[index]
        filler.unlink()
        launch.until(lambda: failed + 320 in checkpoints(out))
        print(f"\nfull during the save at {failed}: told, and gone on; the save at {failed + 320} succeeded")
        assert "training goes on without it" in launch.text()
        assert failed not in checkpoints(out)
        fill(small_disk)
        begun, good = time.monotonic(), checkpoints(out)[-1]
        assert launch.wait() != 0
        seconds, text = time.monotonic() - begun, launch.text()
    reason = re.findall(rf"error: rank \d: cannot write checkpoint (\d+) at .*{FULL}", text)
    print(f"full for good: stopped after {seconds:.1f} s, at the second failed save in a row ({reason[0]} images)")
    assert int(reason[0]) == good + 640
    assert "framework/train/trainer.py" not in text, "a traceback instead of a sentence"
    assert checkpoints(out)[-1] == good
    filler.unlink()
    text = run(TINY, *flags, log=tmp_path / "again.log")
    assert f"resumed at {good:,} images" in text.replace("k images", "00 images")
    assert unequal(undisturbed / "checkpoints/1600", out / "checkpoints/1600") == []
    print(f"room again: resumed at {good}, {int(reason[0]) - good} images done twice, the end equal to the bit")
    logged = [record["images"] for _, record in read_journal(out / "journal.jsonl") if record["kind"] == "metrics"]
    assert sorted(set(logged)) == list(range(160, 1601, 160)), "a metric is missing"


def test_a_run_folder_that_is_read_only(small_disk: Path, tmp_path: Path) -> None:
    _mount("-o", "remount,ro", str(small_disk))
    with Launch(TINY, *UNDISTURBED, "--out", str(small_disk / "run"), log=tmp_path / "log") as launch:
        begun = time.monotonic()
        assert launch.wait() != 0
        print(f"\nrefused after {time.monotonic() - begun:.1f} s")
        assert re.search(r"error: rank 0: .*" + re.escape(str(small_disk / "run")) + ".*Read-only", launch.text())
        assert "framework/train/trainer.py" not in launch.text(), "a traceback instead of a sentence"


@long
def test_a_run_folder_that_becomes_read_only(undisturbed: Path, tmp_path: Path) -> None:
    """As when a file system goes read-only after an error, for the checkpoints: the journal is open and stays so."""
    out = tmp_path / "run"
    flags, folder = (*UNDISTURBED, "--out", str(out)), out / "checkpoints"
    with Launch(TINY, *flags, log=tmp_path / "read-only.log") as launch:
        launch.until(lambda: 320 in checkpoints(out))
        _mount("--bind", str(folder), str(folder))
        try:
            _mount("-o", "remount,bind,ro", str(folder))
            begun, good = time.monotonic(), checkpoints(out)[-1]
            assert launch.wait() != 0
            print(f"\nread-only: stopped after {time.monotonic() - begun:.1f} s, last checkpoint {good}")
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        assert re.search(
            r"error: rank \d: .*Read-only file system; the file system is mounted read-only", launch.text()
        )
        assert checkpoints(out)[-1] == good
    assert "resumed at" in run(TINY, *flags, log=tmp_path / "again.log")
    assert unequal(undisturbed / "checkpoints/1600", out / "checkpoints/1600") == []


@long
def test_a_shared_disk_that_shows_files_late(undisturbed: Path, tmp_path: Path) -> None:
    """Simulated in each process. Saves take longer, resuming waits, and the bits are the same."""
    out, late = tmp_path / "run", {"LATE_SECONDS": "1.5"}
    recipe = ROOT / "tests/recipes/late_disk.py"
    flags = (*UNDISTURBED, "--keep-last", "9", "--out", str(out))
    with Launch(recipe, *flags, extra=late, log=tmp_path / "killed.log") as killed:
        killed.until(lambda: 640 in checkpoints(out))
        killed.kill()
    saved = checkpoints(out)[-1]
    assert saved < 1600, "killed too late to show anything"
    text = run(recipe, *flags, extra=late, log=tmp_path / "again.log")
    print("\n" + "\n".join(re.findall(r"rank \d: \d+ times something .*", text)))
    assert f"resumed at {saved} images" in text.replace("k images", "00 images")
    assert len(re.findall(r"rank \d: [1-9]\d* times something was there and not seen yet", text)) == 2
    assert checkpoints(out)[-1] == 1600
    assert unequal(undisturbed / "checkpoints/1600", out / "checkpoints/1600") == []
