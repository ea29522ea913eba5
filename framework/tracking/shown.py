"""A thread that writes what is shown to `<run>/<key>-<images seen>` and its suffix, so that training does not wait.

The trainer hands over something complete; it is drawn here. The upload process makes previews and MLflow's own names.
"""

import logging
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from framework.media.base import Media
from framework.tracking.journal import Journal
from framework.tracking.records import PICTURE_SUFFIX

MAX_QUEUED = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Job:
    key: str
    images: int
    media: Media


def shown_file(key: str, *, images_seen: int, suffix: str) -> str:
    """Return the readable file name of what is shown, relative to the run folder: `samples/ema-000012800.png`."""
    return f"{key}-{images_seen:09d}{suffix}"


class MediaWriter:
    """A thread that draws, saves and writes each thing into the journal once its file is complete.

    Attributes:
        num_dropped: things given up because the queue was full, or they could not be drawn or written.
    """

    def __init__(self, run_folder: Path, *, journal: Journal) -> None:
        self.num_dropped = 0
        self._run_folder = run_folder
        self._journal = journal
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=MAX_QUEUED)
        self._thread = threading.Thread(target=self._work, name="tracking-media", daemon=True)
        self._thread.start()

    def put(self, key: str, media: Media, *, images_seen: int) -> None:
        """Return at once; if the queue is full (the disk hangs), the thing is dropped and counted.

        Args:
            key: its name, `samples/ema`.
            media: what is shown.
            images_seen: the clock.
        """
        try:
            self._jobs.put_nowait(_Job(key=key, images=images_seen, media=media))
        except queue.Full:
            self._drop(f"{MAX_QUEUED} others are waiting for the disk already", key=key, images_seen=images_seen)

    @property
    def num_waiting(self) -> int:
        """The number of things that are not on the disk yet."""
        return self._jobs.unfinished_tasks if self._thread.is_alive() else 0

    def flush(self, *, wait_seconds: float) -> bool:
        """Wait until all so far is on the disk and in the journal; return False if the time was too short."""
        deadline = time.monotonic() + wait_seconds
        while self._jobs.unfinished_tasks:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self, *, wait_seconds: float) -> bool:
        """Flush and end the thread; return False if something was left behind."""
        flushed = self.flush(wait_seconds=wait_seconds)
        if flushed:
            self._jobs.put(None)
            self._thread.join(timeout=wait_seconds)
        return flushed

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._write(job)
            # Of any kind, because a class of somebody else's is drawn here, and the thread has others' work to do.
            except Exception as error:
                self._drop(f"{type(error).__name__}: {error}", key=job.key, images_seen=job.images)
            finally:
                self._jobs.task_done()

    def _write(self, job: _Job) -> None:
        suffix, form = job.media.suffix, job.media.form
        file = shown_file(job.key, images_seen=job.images, suffix=suffix)
        job.media.save(self._run_folder / file)
        record = {"key": job.key, "images": job.images, "file": file}
        told = {"form": form, "description": job.media.description}
        if suffix == PICTURE_SUFFIX:
            # The token is part of the name in MLflow: with it in the journal, a second upload replaces the first.
            self._journal.write("image", record | {"token": str(uuid.uuid4())} | told)
        else:
            self._journal.write("media", record | told)

    def _drop(self, why: str, *, key: str, images_seen: int) -> None:
        self.num_dropped += 1
        _log.warning("%s at %d images seen is lost: %s", key, images_seen, why)
