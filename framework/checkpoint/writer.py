"""Saves while training goes on: a snapshot on the caller's thread, everything else on a thread of its own.

The trainer waits for one copy into CPU memory (`snapshot`), at full memory speed. The thread then hashes, writes and
fsyncs this rank's files, and commits them together with the other ranks (`commit`). One save is in flight at most.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from framework.checkpoint import commit
from framework.checkpoint.durable import JSON, sync_folder, write_json
from framework.checkpoint.errors import CheckpointError, explain
from framework.checkpoint.layout import FORMAT, TensorSlice, check_token
from framework.checkpoint.retention import Retention, apply_retention, set_aside_later, settle_replaced, sweep
from framework.checkpoint.snapshot import Snapshot, Staging, take_snapshot
from framework.checkpoint.tensorfile import write_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint that has been committed."""

    images_seen: int
    """The clock: number of real images seen."""
    path: Path
    num_bytes: int
    """Bytes of tensors that this rank wrote."""
    seconds: float
    """Time from the call of `save` to the commit."""


class Writer:
    """Writes the checkpoints of one run, on every rank in the same way; also a context manager, which closes itself.

    All ranks must call `save` at the same clock, in the same order. They communicate only through `folder`, which all
    of them must see.

    Args:
        folder: `<run>/checkpoints`; created if missing.
        rank: number of this process, 0 ... world - 1.
        world: number of processes.
        token: name of the launch: the same on all its ranks, another one in every launch; letters, digits, `_.-`.
        retention: the checkpoints that stay.
        timeout_seconds: time that rank 0 waits for the other ranks' files once its own are written.
        at: a function that is called with the name of every point of a save at which the disk is in another state, so
            that tests can cause faults there.

    Raises:
        CheckpointError: the folder cannot be created.
        ValueError: the token has other characters, or the rank is not one of `world`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        world: int,
        token: str,
        retention: Retention,
        timeout_seconds: float = 600,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        check_token(token)
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not one of {world}")
        self.folder = Path(folder)
        self._rank, self._world, self._token = rank, world, token
        self._retention, self._timeout_seconds, self._at = retention, timeout_seconds, at
        self._staging, self._sequence, self._closed = Staging(), 0, False
        self._thread: threading.Thread | None = None
        self._error: CheckpointError | None = None
        self._saved: Saved | None = None
        self._failing = threading.Event()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if rank == 0:
                sync_folder(self.folder.parent)
                sweep(self.folder, token=token)
        except OSError as error:
            raise explain(error, doing="prepare the checkpoint folder", path=self.folder) from error

    def save(
        self,
        images_seen: int,
        slices: Iterable[TensorSlice],
        *,
        documents: Mapping[str, JSON] | None = None,
        record: Mapping[str, JSON] | None = None,
    ) -> float:
        """Wait for the former save, copy the slices, start to write them, and return the seconds that this took.

        Slices are consumed one by one, so an engine may gather or convert each of them when it is asked for.

        Args:
            images_seen: the clock; names the checkpoint.
            slices: this rank's intervals, shape (n,) each; over all ranks they must cover every tensor exactly once.
            documents: file name -> JSON for a file beside the manifest; rank 0's are written.
            record: small states for the manifest itself, floats exact; rank 0's is written.

        Raises:
            CheckpointError: the former save failed (this one has not begun, on any rank), or the writer is closed.
            ValueError: a slice, document or record that cannot be stored, or a negative clock.
        """
        began = time.perf_counter()
        if images_seen < 0:
            raise ValueError(f"images={images_seen}: the clock cannot be negative")
        if self._closed:
            raise CheckpointError("the checkpoint writer is closed: nothing can be saved any more")
        # One save is in flight at most.
        self._sequence += 1
        self.wait()
        attempt = commit.Attempt(
            folder=self.folder,
            images_seen=images_seen,
            rank=self._rank,
            world=self._world,
            token=self._token,
            sequence=self._sequence,
            timeout_seconds=self._timeout_seconds,
            at=self._at,
            failing=self._failing,
        )
        # The caller waits for the copies only.
        snapshot = take_snapshot(
            slices,
            staging=self._staging,
            images_seen=images_seen,
            rank=self._rank,
            world=self._world,
            documents=documents or {},
            record=record or {},
        )
        self._at("snapshot")
        # The thread is no daemon: an interpreter that ends normally finishes the save.
        self._thread = threading.Thread(
            target=self._run, args=(attempt, snapshot, began), name=f"checkpoint-{images_seen}"
        )
        self._thread.start()
        return time.perf_counter() - began

    def wait(self) -> Saved | None:
        """Wait for the save in flight, on all ranks, and return the last committed checkpoint, or None.

        Raises:
            CheckpointError: the save failed; earlier checkpoints are untouched.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._saved

    def close(self) -> None:
        """Wait for the save in flight and release the memory of snapshots.

        Raises:
            CheckpointError: see `wait`.
        """
        self._closed = True
        try:
            self.wait()
        finally:
            self._staging = Staging()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the writer; while an error passes through, wait only briefly for other ranks, and raise nothing."""
        if error is None:
            self.close()
            return
        self._failing.set()
        with contextlib.suppress(CheckpointError):  # the thread has logged it
            self.close()

    def _run(self, attempt: commit.Attempt, snapshot: Snapshot, began: float) -> None:
        """Write on the thread; every error is logged at once and kept for `wait`, so that none is lost."""
        try:
            self._write(attempt, snapshot)
            self._saved = Saved(
                images_seen=attempt.images_seen,
                path=attempt.final,
                num_bytes=snapshot.num_bytes,
                seconds=time.perf_counter() - began,
            )
        except Exception as error:
            self._error = self._named(attempt, error)
            log.error("%s", self._error)
            commit.abandon(attempt, str(self._error))

    def _named(self, attempt: commit.Attempt, error: Exception) -> CheckpointError:
        if isinstance(error, CheckpointError):
            return error
        if isinstance(error, FileNotFoundError) and commit.aborted(attempt):
            named = commit.given_up(attempt)  # rank 0 cleared the folder while this rank was writing
        elif isinstance(error, OSError):
            named = explain(error, doing=f"write checkpoint {attempt.images_seen}", path=attempt.temporary)
            named = CheckpointError(f"{named} (earlier checkpoints are untouched)")
        else:
            named = CheckpointError(
                f"writing checkpoint {attempt.images_seen} to {attempt.temporary} failed: {error!r}"
            )
        named.__cause__ = error
        return named

    def _write(self, attempt: commit.Attempt, snapshot: Snapshot) -> None:
        commit.open_folder(attempt)
        part = snapshot.part
        metadata = {"format": "pt", "checkpoint_format": str(FORMAT), "images": str(attempt.images_seen)}
        for name, tensors in snapshot.tensors.items():
            part.files[name] = write_tensors(attempt.temporary / name, tensors, metadata=metadata, at=attempt.at)
        if attempt.rank == 0:
            for name, document in snapshot.documents.items():
                part.files[name] = write_json(attempt.temporary / name, document)
                attempt.at(f"document {name}")
            commit.collect(attempt, part)
            commit.publish(attempt, part)
            self._tidy(attempt)
        else:
            commit.deliver(attempt, part)
            commit.await_outcome(attempt)

    def _tidy(self, attempt: commit.Attempt) -> None:
        """Remove old checkpoints after the commit; a failure costs only disk space, is logged, and is tried again."""
        try:
            settle_replaced(self.folder)
            attempt.at("settled")
            set_aside_later(self.folder, images_seen=attempt.images_seen, token=self._token)
            attempt.at("later ones aside")
            apply_retention(self.folder, self._retention, token=self._token)
            # The previous save's folder may still tell a slow rank that it was aborted; older ones are read by nobody.
            sweep(self.folder, token=self._token, before_sequence=attempt.sequence - 1)
            attempt.at("retention")
        except (OSError, CheckpointError) as error:
            log.error("checkpoint %d is saved, but old ones could not be tidied up: %s", attempt.images_seen, error)
