"""Disks that refuse: full, too small a file limit, read-only. Earlier checkpoints stay, nothing half is left."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from framework.checkpoint import CheckpointError, Retention, TensorSlice, Writer, newest_valid


def slices(num_bytes: int) -> list[TensorSlice]:
    values = torch.arange(num_bytes // 4, dtype=torch.float32)
    return [TensorSlice(key="generator/weight/w", start=0, values=values, shape=tuple(values.shape))]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 1 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small tmpfs here: {getattr(error, 'stderr', None) or error}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_full_disk(small_disk):
    folder = small_disk / "run" / "checkpoints"
    writer = Writer(folder, rank=0, world=1, token="t", retention=Retention(last=1))
    writer.save(1, slices(300_000), record={"n": 1})
    writer.wait()
    writer.save(2, slices(900_000), record={"n": 2})
    expected = r"cannot write checkpoint 2 at .*/state-00001-of-00001.safetensors: No space left on device; the disk is"
    with pytest.raises(CheckpointError, match=expected):
        writer.wait()
    assert os.listdir(folder) == ["1"]
    found, rejected = newest_valid(folder)
    assert (found.images_seen, rejected) == (1, [])
    writer.save(3, slices(400_000))
    assert writer.wait().images_seen == 3
    assert os.listdir(folder) == ["3"]
    writer.close()


def test_full_disk_on_one_of_two_ranks(small_disk, save_together):
    """Rank 1's share does not fit; both ranks learn it at once."""
    folder = small_disk / "checkpoints"

    def share(rank: int) -> list[TensorSlice]:
        values = torch.zeros(300_000 if rank else 10)
        return [TensorSlice(key=f"generator/weight/{rank}", start=0, values=values, shape=tuple(values.shape))]

    errors = save_together(2, 2, share, folder=folder)
    assert "rank 1 failed" in str(errors[0])
    assert "No space left" in str(errors[0])
    assert "No space left" in str(errors[1])
    assert newest_valid(folder) == (None, [])
    remaining = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert remaining < 1000  # the failed save gives its space back at once


def test_a_rank_can_say_that_it_failed_on_a_disk_without_any_room(small_disk, open_writer):
    """What a failed rank frees, another may fill at once; an empty file says it all the same."""
    folder = small_disk / "checkpoints"

    def fill(point: str) -> None:
        if not point.startswith("create"):
            return
        deadline = time.monotonic() + 30
        while not list(folder.glob(".*/state-00001-of-00002.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)  # rank 0 has written its file
        with open(small_disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    writers = [open_writer(rank=0, world=2, folder=folder), open_writer(rank=1, world=2, folder=folder, at=fill)]
    began = time.monotonic()
    for writer in writers:
        writer.save(2, slices(1000))
    for writer, expected in zip(writers, ("rank 1 failed; its own log says why", "No space left"), strict=True):
        with pytest.raises(CheckpointError, match=expected):
            writer.wait()
    assert time.monotonic() - began < 60, "not the 600 s of the timeout"


def test_read_only_disk(small_disk):
    folder = small_disk / "checkpoints"
    writer = Writer(folder, rank=0, world=1, token="t", retention=Retention())
    writer.save(1, slices(1000))
    writer.wait()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    writer.save(2, slices(1000))
    with pytest.raises(CheckpointError, match="Read-only file system; the file system is mounted read-only"):
        writer.close()
    assert newest_valid(folder)[0].images_seen == 1
    with pytest.raises(CheckpointError, match=r"cannot prepare the checkpoint folder at .*Read-only"):
        Writer(small_disk / "elsewhere", rank=0, world=1, token="t", retention=Retention())


def test_a_file_size_limit(tmp_path, save):
    """RLIMIT_FSIZE works without root; the limit is put on a process of its own."""
    folder = tmp_path / "checkpoints"
    save({"generator/weight/w": torch.zeros(10)}, 1, folder=folder)
    program = (
        "import sys, torch; from pathlib import Path; from framework.checkpoint import *\n"
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "w = Writer(Path(sys.argv[1]), rank=0, world=1, token='t', retention=Retention())\n"
        "w.save(2, [TensorSlice(key='generator/weight/w', start=0, values=torch.ones(100_000), shape=(100_000,))])\n"
        "try: w.close()\n"
        "except CheckpointError as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "cannot write checkpoint 2 at" in done.stdout
    assert os.strerror(errno.EFBIG) in done.stdout
    assert os.listdir(folder) == ["1"]
