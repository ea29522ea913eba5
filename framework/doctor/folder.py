"""The examination of the run folder: write access, speed, and the locks and renames that a run needs.

Everything is tried in a hidden folder, which is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from framework.doctor.finding import Finding, fail, ok, warn
from framework.tracking.lock import WriterLock
from framework.utils.quantities import format_bytes

GIB = 1 << 30
PROBE_BYTES = 64 << 20
NUM_RENAMES = 200
_LOCK_SECONDS = 60
_SHORT_LIVED = {"tmpfs": "it is memory and gone at the next start", "overlay": "it is gone with the container"}
_ASK_FOR_LOCK = (
    "import sys, pathlib; from framework.tracking.lock import writer_is_alive; "
    "print(writer_is_alive(pathlib.Path(sys.argv[1])))"
)


def run_folder(out: Path) -> Iterator[Finding]:
    """Examine the folder where runs will be written; it need not exist yet.

    Args:
        out: the value that `--out` will have.
    """
    standing = existing(out)
    try:
        probe = Path(tempfile.mkdtemp(prefix=".doctor-", dir=standing))
    except OSError as error:
        where = f"nothing can be written in {standing}: {error.strerror}"
        yield fail("run folder", where, "choose another --out, or ask for write access")
        return
    try:
        yield kind(standing)
        yield space(standing)
        yield speed(probe)
        for area, check in (("atomic rename", renames), ("file locks", locks)):
            try:
                yield check(probe)
            except OSError as error:  # a full disk, which is reported above
                yield fail(area, f"could not be tried: {error.strerror}", "mend what fails above first")
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def existing(path: Path) -> Path:
    """Return the path itself if it is a folder, else the nearest folder above it that exists."""
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def kind(folder: Path) -> Finding:
    """Return the finding on the file system, which may be one that does not last."""
    system = file_system(folder)
    value = f"{folder} ({system})"
    if system in _SHORT_LIVED:
        return warn("run folder", value, f"{_SHORT_LIVED[system]}: put --out on a disk or a mounted volume")
    return ok("run folder", value)


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds the folder, such as ext4, nfs4 or lustre."""
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[str(place)] for place in (folder, *folder.parents) if str(place) in mounts), "unknown")


def space(folder: Path) -> Finding:
    """Return the finding on free disk space."""
    usage = shutil.disk_usage(folder)
    value = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)}"
    advice = (
        "a checkpoint of a large model takes gigabytes, and --keep-last keeps 3: free some, or choose another --out"
    )
    if usage.free < GIB:
        return fail("disk space", value, advice)
    if usage.free < 20 * GIB:
        return warn("disk space", value, advice)
    return ok("disk space", value)


def speed(folder: Path, *, num_bytes: int = PROBE_BYTES) -> Finding:
    """Return the finding on the speed in MB/s at which a file of `num_bytes` is written and synchronised (fsync)."""
    block, path = os.urandom(1 << 20), folder / "speed"
    begun = time.perf_counter()
    try:
        with path.open("wb") as file:
            for _ in range(num_bytes // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        return fail("disk speed", f"writing {format_bytes(num_bytes)} failed: {error.strerror}", "free some space")
    rate = num_bytes / 1e6 / (time.perf_counter() - begun)
    path.unlink()
    value = f"{rate:,.0f} MB/s written and synchronised"
    if rate < 30:
        return warn("disk speed", value, "saves run beside training, but one waits for the one before: save less often")
    return ok("disk speed", value)


def renames(folder: Path, *, times: int = NUM_RENAMES) -> Finding:
    """Replace a file again and again while a thread reads it, which must see the whole old or the whole new file."""
    target, size = folder / "renamed", 8192
    target.write_bytes(b"\0" * size)
    torn: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                content = target.read_bytes()
            except OSError as error:
                torn.append(str(error.strerror))
                return
            if len(content) != size or len(set(content)) != 1:
                torn.append("half a file was seen")
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(times):
            (folder / "next").write_bytes(bytes([number % 256]) * size)
            os.replace(folder / "next", target)
    except OSError as error:
        torn.append(str(error.strerror))
    done.set()
    reader.join()
    if torn:
        advice = "checkpoints rely on it: use a POSIX file system (local disk, NFS, Lustre, GPFS), not an object store"
        return fail("atomic rename", torn[0], advice)
    return ok("atomic rename", f"{times} replacements, every read was whole")


def locks(folder: Path) -> Finding:
    """Return the finding on whether another process sees this one's lock, which keeps two launches out of a folder."""
    path = folder / "lock"
    lock = WriterLock(path, run_folder=folder)
    try:
        seen = subprocess.run(
            [sys.executable, "-c", _ASK_FOR_LOCK, str(path)], capture_output=True, text=True, timeout=_LOCK_SECONDS
        )
        answer = seen.stdout.strip() or (seen.stderr.strip().splitlines() or ["no answer"])[-1]
    except subprocess.TimeoutExpired:
        answer = f"no answer within {_LOCK_SECONDS} s"
    finally:
        with contextlib.suppress(OSError):
            lock.release()
    if answer == "True":
        return ok("file locks", "another process sees them")
    advice = "never start two launches with the same --out: nothing would stop the second one"
    return warn("file locks", f"not seen by another process ({answer})", advice)
