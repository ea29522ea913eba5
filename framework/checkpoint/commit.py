"""How ranks that share nothing but a file system agree on one checkpoint.

Every rank writes its files into one temporary folder, then its part. Rank 0 waits for all parts, checks that together
they hold every element once, writes the manifest, and renames the folder: that rename is the commit. The others wait
until the temporary folder is gone (committed) or holds an `aborted` mark, so all ranks learn the same outcome and the
next save raises, or does not raise, on all of them. A network file system may show all this late, never out of order.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from framework.checkpoint.durable import read_json, remove_tree, sync_folder, write_json
from framework.checkpoint.errors import CheckpointError
from framework.checkpoint.layout import (
    ABORTED,
    MANIFEST,
    failed_file,
    index_files,
    part_file,
    replaced_folder,
    temporary_folder,
)
from framework.checkpoint.manifest import Manifest, parse_manifest

_SHORTEST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5
_PATIENCE_AFTER_FAILURE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One save as one rank sees it."""

    folder: Path
    """`<run>/checkpoints`, shared by all ranks."""
    images: int
    rank: int
    world: int
    token: str
    """The same on all ranks of a launch, and on no other launch."""
    sequence: int
    """Number of this save within the launch; keeps a late rank out of a later save of the same images."""
    timeout_seconds: float
    at: Callable[[str], None]
    """Called with the name of every point at which the disk is in another state."""
    failing: threading.Event = field(default_factory=threading.Event)
    """Set when this launch is ending with an error: the others may be gone, so waiting for them is cut short."""

    @property
    def temporary(self) -> Path:
        """Where the checkpoint is assembled."""
        return temporary_folder(self.folder, images_seen=self.images, token=self.token, sequence=self.sequence)

    @property
    def final(self) -> Path:
        """Where the complete checkpoint stands."""
        return self.folder / str(self.images)


def open_folder(attempt: Attempt) -> None:
    """Create the temporary folder; whichever rank comes first does it."""
    attempt.temporary.mkdir(exist_ok=True)
    attempt.at("folder")
    _raise_if_aborted(attempt, os.listdir(attempt.temporary))


def deliver(attempt: Attempt, part: Manifest) -> None:
    """Tell rank 0 that this rank's files are complete."""
    write_json(attempt.temporary / part_file(attempt.rank), part.to_json())
    attempt.at("part")


def collect(attempt: Attempt, manifest: Manifest) -> None:
    """Rank 0: wait for the parts of all other ranks and merge them into the manifest.

    Raises:
        CheckpointError: a rank failed or did not deliver in time, or the parts do not make up whole tensors.
    """
    missing = set(range(1, attempt.world))
    for _ in _polls(attempt, timeout_seconds=attempt.timeout_seconds):
        visible = set(os.listdir(attempt.temporary))
        for rank in sorted(missing):
            if failed_file(rank) in visible:
                raise CheckpointError(f"checkpoint {attempt.images}: rank {rank} failed; its own log says why")
            part = _read_part(attempt, rank) if part_file(rank) in visible else None
            if part is not None:
                manifest.add(part, source=f"rank {rank}")
                missing.discard(rank)
        if not missing:
            break
    else:
        named = ", ".join(str(rank) for rank in sorted(missing)[:8]) + (", ..." if len(missing) > 8 else "")
        raise CheckpointError(
            f"checkpoint {attempt.images}: rank {named} ({len(missing)} of {attempt.world}) did not deliver "
            f"{_patience(attempt, attempt.timeout_seconds)} in {attempt.temporary}; either it died or hangs, or "
            f"{attempt.folder} is not shared: put the run folder on a file system that all nodes mount"
        )
    manifest.check()
    attempt.at("collected")


def publish(attempt: Attempt, manifest: Manifest) -> None:
    """Rank 0: write indices and manifest and give the folder its final name, replacing a checkpoint of these images."""
    temporary = attempt.temporary
    for name, prefix in index_files().items():
        if any(file.startswith(prefix) for file in manifest.files):
            manifest.files[name] = write_json(temporary / name, manifest.index(prefix))
            attempt.at(f"index {name}")
    write_json(temporary / MANIFEST, manifest.to_json())
    attempt.at("manifest")
    for rank in range(1, attempt.world):
        (temporary / part_file(rank)).unlink()
    sync_folder(temporary)
    if attempt.final.exists():
        aside = replaced_folder(
            attempt.folder, images_seen=attempt.images, token=attempt.token, sequence=attempt.sequence
        )
        os.rename(attempt.final, aside)
        attempt.at("set aside")
    os.rename(temporary, attempt.final)
    sync_folder(attempt.folder)
    attempt.at("published")


def await_outcome(attempt: Attempt) -> None:
    """Other ranks: wait until rank 0 has committed.

    Raises:
        CheckpointError: rank 0 gave up, or did not answer in time.
    """
    # Rank 0 may itself wait that long for another rank.
    for _ in _polls(attempt, timeout_seconds=2 * attempt.timeout_seconds):
        try:
            names = os.listdir(attempt.temporary)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # the latter is how NFS says it
                return
            raise
        _raise_if_aborted(attempt, names)
    raise CheckpointError(
        f"checkpoint {attempt.images}: rank 0 did not commit it {_patience(attempt, 2 * attempt.timeout_seconds)}; "
        f"either it died or hangs, or {attempt.folder} is not shared: put the run folder on a file system that all "
        "nodes mount"
    )


def abandon(attempt: Attempt, reason: str) -> None:
    """Remove what a failed save left behind and let the other ranks know, as far as the file system still allows."""
    temporary = attempt.temporary
    # The failure itself is raised by the caller; a disk that refuses this too leaves the others to their timeout.
    with contextlib.suppress(OSError):
        if attempt.world == 1:
            remove_tree(temporary)
        elif attempt.rank == 0:
            (temporary / ABORTED).touch()
            for path in temporary.iterdir():
                if path.name != ABORTED:
                    path.unlink(missing_ok=True)
        else:
            for path in temporary.glob(f"*-{attempt.rank + 1:05d}-of-*"):
                path.unlink(missing_ok=True)
            _confess(attempt, reason)


def _confess(attempt: Attempt, reason: str) -> None:
    """Tell rank 0 of the failure. What was freed here another rank may have filled; an empty file needs no room."""
    try:
        write_json(attempt.temporary / part_file(attempt.rank), {"error": reason})
    except OSError:
        (attempt.temporary / failed_file(attempt.rank)).touch()


def aborted(attempt: Attempt) -> bool:
    """Has rank 0 given up this save?"""
    return (attempt.temporary / ABORTED).exists()


def given_up(attempt: Attempt) -> CheckpointError:
    """What the other ranks raise then."""
    return CheckpointError(f"checkpoint {attempt.images}: rank 0 gave it up; rank 0's log says why")


def _read_part(attempt: Attempt, rank: int) -> Manifest | None:
    """The part of another rank, or None while it or its files are not fully visible yet."""
    try:
        content = read_json(attempt.temporary / part_file(rank))
    except CheckpointError:
        return None  # written atomically, so it is still on its way; collect's deadline bounds the wait
    if isinstance(content, dict) and "error" in content:
        raise CheckpointError(f"checkpoint {attempt.images}: rank {rank} failed: {content['error']}")
    part = parse_manifest(content)
    for name, digest in part.files.items():
        file = attempt.temporary / name
        if not file.exists() or file.stat().st_size != digest.bytes:
            return None
    return part


def _raise_if_aborted(attempt: Attempt, names: list[str]) -> None:
    if ABORTED in names:
        raise given_up(attempt)


def _patience(attempt: Attempt, timeout_seconds: float) -> str:
    if attempt.failing.is_set():
        return f"within {_PATIENCE_AFTER_FAILURE_SECONDS:g} s after this launch began to fail"
    return f"within {timeout_seconds:g} s"


def _polls(attempt: Attempt, *, timeout_seconds: float) -> Iterator[None]:
    """Yield at growing intervals until the time is up; once more at its end."""
    deadline, pause, shortened = time.monotonic() + timeout_seconds, _SHORTEST_PAUSE_SECONDS, False
    while True:
        yield
        if attempt.failing.is_set() and not shortened:
            shortened = True
            deadline = min(deadline, time.monotonic() + _PATIENCE_AFTER_FAILURE_SECONDS)
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
