"""A thread that writes samples to `<run>/<key>-<images seen>.png`, so that training does not wait.

The trainer only waits for a copy of the pixels. The upload process makes previews and MLflow's own file names.
"""

import logging
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framework.tracking.grids import Pixels, save_png, to_image
from framework.tracking.journal import Journal

MAX_QUEUED_IMAGES = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Job:
    key: str
    images: int
    pixels: Pixels


def image_file(key: str, *, images_seen: int) -> str:
    """Return the readable file name of an image, relative to the run folder: `samples/ema-000012800.png`."""
    return f"{key}-{images_seen:09d}.png"


class ImageWriter:
    """A thread that encodes images and writes each into the journal once its file is complete.

    Attributes:
        num_dropped: images given up because the queue was full or the disk refused them.
    """

    def __init__(self, run_folder: Path, *, journal: Journal) -> None:
        self.num_dropped = 0
        self._run_folder = run_folder
        self._journal = journal
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=MAX_QUEUED_IMAGES)
        self._thread = threading.Thread(target=self._work, name="tracking-images", daemon=True)
        self._thread.start()

    def put(self, key: str, pixels: Pixels, *, images_seen: int) -> None:
        """Copy the pixels and return at once; if the queue is full (the disk hangs), the image is dropped and counted.

        Args:
            key: the name of the image, `samples/ema`.
            pixels: uint8 `(H, W)`, `(H, W, 1)` or `(H, W, 3)`.
            images_seen: the clock.

        Raises:
            FrameworkError: the pixels are no image (see `grids.to_image`).
        """
        to_image(pixels)
        try:
            self._jobs.put_nowait(_Job(key=key, images=images_seen, pixels=np.array(pixels)))
        except queue.Full:
            self._drop(f"{MAX_QUEUED_IMAGES} images are waiting for the disk already", key=key, images_seen=images_seen)

    @property
    def num_waiting(self) -> int:
        """The number of images that are not on the disk yet."""
        return self._jobs.unfinished_tasks if self._thread.is_alive() else 0

    def flush(self, *, wait_seconds: float) -> bool:
        """Wait until every image so far is on the disk and in the journal; return False if the time was too short."""
        deadline = time.monotonic() + wait_seconds
        while self._jobs.unfinished_tasks:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self, *, wait_seconds: float) -> bool:
        """Flush and end the thread; return False if images were left behind."""
        flushed = self.flush(wait_seconds=wait_seconds)
        if flushed:
            self._jobs.put(None)
            self._thread.join(timeout=wait_seconds)
        return flushed

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._write(job)
            except OSError as error:
                self._drop(str(error), key=job.key, images_seen=job.images)
            finally:
                self._jobs.task_done()

    def _write(self, job: _Job) -> None:
        file = image_file(job.key, images_seen=job.images)
        save_png(self._run_folder / file, job.pixels)
        # The token is part of the name in MLflow: with it in the journal, a second upload replaces the first.
        self._journal.write("image", {"key": job.key, "images": job.images, "file": file, "token": str(uuid.uuid4())})

    def _drop(self, why: str, *, key: str, images_seen: int) -> None:
        self.num_dropped += 1
        _log.warning("image %s at %d images seen is lost: %s", key, images_seen, why)
