"""What a killed `framework pack` left, and the same command goes on with: its progress, shards and indexes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from tests.fuzz.containers import index_edited, tar_edited
from tests.fuzz.mutation import damaged, json_lines_edited
from tests.fuzz.reader import Reader, Target
from tests.helpers.packing import staging_left
from tests.helpers.pictures import hashes, make_npz, pack_quietly

logging.getLogger("framework").setLevel(logging.CRITICAL)
_OPTIONS: dict[str, Any] = {"shard_samples": 2, "workers": 1}


def _make(folder: Path) -> None:
    make_npz(folder / "a.npz", count=6, side=4, classes=2)
    staging_left(folder / "a.npz", folder / "out", shards=2, **_OPTIONS).rename(folder / "left")


def _goes_on(folder: Path) -> Any:
    """The shards of the finished data set, which must be those of an undisturbed run."""
    out, staging = folder / "out", folder / ".out.part"
    for old in (out, staging):
        shutil.rmtree(old, ignore_errors=True)
    staging.mkdir()
    for file in (folder / "left").iterdir():
        with contextlib.suppress(OSError):  # a file that is no file is met by way of a link
            (staging / file.name).symlink_to(file) if not _is_small(file) else shutil.copy(file, staging / file.name)
    with mock.patch.object(os, "fsync"):  # takes a disk's time, and the cases need not survive a power cut
        pack_quietly(folder / "a.npz", out, **_OPTIONS)
    return {name: digest for name, digest in hashes(out).items() if name != "manifest.json"}


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size < 1 << 24


READERS = (
    Reader(
        name="progress of a pack",
        make=_make,
        read=_goes_on,
        targets=(
            Target(path="left/progress.jsonl", mutators=(damaged, json_lines_edited, json_lines_edited)),
            Target(path="left/progress.jsonl", mutators=(damaged, json_lines_edited, json_lines_edited)),
            Target(path="left/train-000000.tar", mutators=(damaged, tar_edited)),
            Target(path="left/train-000001.idx", mutators=(damaged, index_edited)),
        ),
        protected=True,
    ),
)
