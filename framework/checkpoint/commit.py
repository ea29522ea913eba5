"""Agreement of ranks on one checkpoint, where they share nothing but a file system.

Every rank writes its files into one temporary folder, then its part. Rank 0 waits for all parts, checks that together
they hold every element once, writes the manifest, and renames the folder: that rename is the commit. The others wait
until the temporary folder is gone (committed) or holds an `aborted` mark, so all ranks learn the same outcome and the
next save raises on all of them or on none. A network file system may show all this late, but never out of order.
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
    images_seen: int
    """The clock: number of real images seen, which names the checkpoint."""
    rank: int
    world: int
    """Number of ranks."""
    token: str
    """Name of the launch: the same on all its ranks, and another one in every other launch."""
    sequence: int
    """Number of this save within the launch, which keeps a late rank out of a later save of the same images."""
    timeout_seconds: float
    """Time that rank 0 waits for the other ranks; these wait twice as long for rank 0."""
    at: Callable[[str], None]
    """A function that is called with the name of every point at which the disk is in another state."""
    failing: threading.Event = field(default_factory=threading.Event)
    """An event, set when this launch ends with an error: the others may be gone then, so waits are cut short."""

    @property
    def temporary(self) -> Path:
        """The folder in which the checkpoint is assembled."""
        return temporary_folder(self.folder, images_seen=self.images_seen, token=self.token, sequence=self.sequence)

    @property
    def final(self) -> Path:
        """The folder of the complete checkpoint."""
        return self.folder / str(self.images_seen)


def open_folder(attempt: Attempt) -> None:
    """Create the temporary folder, unless another rank has done so.

    Raises:
        CheckpointError: rank 0 has given up this save.
    """
    attempt.temporary.mkdir(exist_ok=True)
    attempt.at("folder")
    _raise_if_aborted(attempt, os.listdir(attempt.temporary))


def deliver(attempt: Attempt, part: Manifest) -> None:
    """Write this rank's part, which tells rank 0 that its files are complete."""
    write_json(attempt.temporary / part_file(attempt.rank), part.to_json())
    attempt.at("part")


def collect(attempt: Attempt, manifest: Manifest) -> None:
    """Wait on rank 0 for the parts of all other ranks, and merge them into the manifest.

    Raises:
        CheckpointError: a rank failed or did not deliver in time, or the parts do not make up whole tensors.
    """
    missing = set(range(1, attempt.world))
    for _ in _polls(attempt, timeout_seconds=attempt.timeout_seconds):
        visible = set(os.listdir(attempt.temporary))
        for rank in sorted(missing):
            if failed_file(rank) in visible:
                raise CheckpointError(f"checkpoint {attempt.images_seen}: rank {rank} failed; its own log says why")
            part = _read_part(attempt, rank) if part_file(rank) in visible else None
            if part is not None:
                manifest.add(part, source=f"rank {rank}")
                missing.discard(rank)
        if not missing:
            break
    else:
        named = ", ".join(str(rank) for rank in sorted(missing)[:8]) + (", ..." if len(missing) > 8 else "")
        raise CheckpointError(
            f"checkpoint {attempt.images_seen}: rank {named} ({len(missing)} of {attempt.world}) did not deliver "
            f"{_patience(attempt, attempt.timeout_seconds)} in {attempt.temporary}; unless its log shows that it died "
            f"or hangs, {attempt.folder} is not shared: put the run folder on a file system that all nodes mount"
        )
    manifest.check()
    attempt.at("collected")


def publish(attempt: Attempt, manifest: Manifest) -> None:
    """Write indices and manifest on rank 0 and rename the folder, in place of an older checkpoint of these images.

    Raises:
        OSError: the file system refuses.
    """
    temporary = attempt.temporary
    # The last files of the folder: the manifest lists all others.
    for name, prefix in index_files().items():
        if any(file.startswith(prefix) for file in manifest.files):
            manifest.files[name] = write_json(temporary / name, manifest.index(prefix))
            attempt.at(f"index {name}")
    write_json(temporary / MANIFEST, manifest.to_json())
    attempt.at("manifest")
    # Parts were notes among the ranks, and are no files of a checkpoint.
    for rank in range(1, attempt.world):
        (temporary / part_file(rank)).unlink()
    sync_folder(temporary)
    # Two renames replace a checkpoint; between them, the former one is found under its name aside.
    if attempt.final.exists():
        aside = replaced_folder(
            attempt.folder, images_seen=attempt.images_seen, token=attempt.token, sequence=attempt.sequence
        )
        os.rename(attempt.final, aside)
        attempt.at("set aside")
    os.rename(temporary, attempt.final)
    sync_folder(attempt.folder)
    attempt.at("published")


def await_outcome(attempt: Attempt) -> None:
    """Wait on the other ranks until rank 0 has committed.

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
        f"checkpoint {attempt.images_seen}: rank 0 did not commit it "
        f"{_patience(attempt, 2 * attempt.timeout_seconds)}; "
        f"unless its log shows that it died or hangs, {attempt.folder} is not shared: put the run folder on a file "
        "system that all nodes mount"
    )


def abandon(attempt: Attempt, reason: str) -> None:
    """Remove what a failed save left behind and let the other ranks know, as far as the file system still allows it."""
    temporary = attempt.temporary
    # The caller raises the failure itself. If the disk refuses this too, the others wait until their time-out.
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
            _report_failure(attempt, reason)


def _report_failure(attempt: Attempt, reason: str) -> None:
    """Tell rank 0 of the failure: with its reason, or by an empty file where others have filled the disk meanwhile."""
    try:
        write_json(attempt.temporary / part_file(attempt.rank), {"error": reason})
    except OSError:
        (attempt.temporary / failed_file(attempt.rank)).touch()


def aborted(attempt: Attempt) -> bool:
    """Return whether rank 0 has given up this save."""
    return (attempt.temporary / ABORTED).exists()


def given_up(attempt: Attempt) -> CheckpointError:
    """Return the error that the other ranks raise when rank 0 has given up this save."""
    return CheckpointError(f"checkpoint {attempt.images_seen}: rank 0 gave it up; rank 0's log says why")


def _read_part(attempt: Attempt, rank: int) -> Manifest | None:
    """Return the part of another rank, or None while it or its files are not fully visible.

    Raises:
        CheckpointError: the rank failed, or its part is malformed.
    """
    try:
        content = read_json(attempt.temporary / part_file(rank))
    except CheckpointError:
        return None  # written atomically, so it is still on its way; collect's deadline bounds the wait
    if isinstance(content, dict) and "error" in content:
        raise CheckpointError(f"checkpoint {attempt.images_seen}: rank {rank} failed: {content['error']}")
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
    """Yield at growing intervals until the time is up, and once more at its end."""
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
