"""The upload process: `python -m framework.tracking.upload RUN --parent PID` (started by `Tracker.open`).

It follows the journal and repeats every request until the store has it, for as long as the trainer lives. Points
(metrics, parameters, tags, status) and files (images, artifacts) move independently; when both are done, the
checkpoints on disk are sent as models. It does not disturb the trainer: it has low priority, a session of its own and
no torch. `framework sync` runs the same code without `--parent`, once, until everything is sent.

Exit codes: 0 if all is in the store, 1 if the upload gave up for now, 3 if another upload of this run is at work.
"""

import argparse
import contextlib
import functools
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from framework.tracking.cursor import TRACKING_FOLDER, Cursor
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.process import BUSY, COMPLETE, INCOMPLETE, LINGER_SECONDS, URI_VARIABLE, mlflow_environment
from framework.tracking.records import JOURNAL_NAME
from framework.tracking.uri import move_credentials, without_secrets
from framework.utils.locks import ProcessLock

if TYPE_CHECKING:
    from framework.tracking.queues import UploadQueues

POLL_SECONDS = 2.0
POLL_AT_END_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0
MAX_BACKOFF_AT_END_SECONDS = 3.0
NICENESS = 10

LOCK_WAIT_SECONDS = 5.0


class Trainer:
    """The parent process as seen from here; it is alive or gone, and wakes us through our standard input."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._finished = False
        self.hurry = False
        # A batch system may send TERM to all processes at once; the trainer still has its last records to write.
        signal.signal(signal.SIGTERM, self._on_terminate)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)

    def is_writing(self) -> bool:
        """Return whether more records can come."""
        return not self._finished and os.getppid() == self._pid

    def pause(self, seconds: float) -> None:
        """Sleep, but wake up as soon as the trainer says that it has finished."""
        if self._finished:
            time.sleep(seconds)
            return
        readable, _, _ = select.select([sys.stdin], [], [], seconds)
        # Any byte, or the end of the file, means that the trainer has finished.
        self._finished = bool(readable)

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self.hurry = True


class _Retry:
    """The time after a failure at which a queue may be tried again."""

    def __init__(self) -> None:
        self.failing = False
        self._delay_seconds = 0.0
        self._not_before = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._not_before

    def succeeded(self) -> None:
        self.failing, self._delay_seconds, self._not_before = False, 0.0, 0.0

    def failed(self, *, limit_seconds: float) -> None:
        self.failing = True
        self._delay_seconds = min(max(1.0, 2 * self._delay_seconds), limit_seconds)
        # Runs that lost their server at the same time should not come back at the same time.
        self._not_before = time.monotonic() + self._delay_seconds * random.uniform(0.8, 1.2)

    def try_now(self) -> None:
        self._not_before = 0.0


class Upload:
    """The upload loop, which advances the queues, waits and repeats."""

    def __init__(self, queues: "UploadQueues", *, cursor: Cursor) -> None:
        self._queues = queues
        self._cursor = cursor
        self._points, self._files, self._models = _Retry(), _Retry(), _Retry()
        self._said = ""

    def follow(
        self, *, is_writing: Callable[[], bool], pause: Callable[[float], None], linger: Callable[[], float]
    ) -> bool:
        """Upload until the trainer has ended and all is sent; return False if it gave up after `linger()` seconds.

        Args:
            is_writing: tells whether more records can come.
            pause: waits that many seconds, or less.
            linger: gives the seconds to go on trying after the trainer's end.
        """
        ended_at: float | None = None
        while True:
            # Ask before reading: what was written before the answer no is read below.
            writing = is_writing()
            if not writing and ended_at is None:
                ended_at = time.monotonic()
                for retry in (self._points, self._files, self._models):
                    retry.try_now()
            # One step. Points go first: files wait while there are charts to draw.
            moved = self._try(self._points, self._queues.advance_points, writing=writing)
            if not moved and not self._points.failing:
                moved = self._try(self._files, self._queues.advance_files, writing=writing)
            if not moved and not self._points.failing and not self._files.failing:
                compare = functools.partial(self._queues.advance_models, hurry=not writing)
                moved = self._try(self._models, compare, writing=writing)
            if moved:
                continue
            # Nothing left to send: done, or given up, once the trainer has ended.
            if ended_at is not None:
                if not any(retry.failing for retry in (self._points, self._files, self._models)):
                    if not self._try(self._points, self._queues.settle, writing=False) and not self._points.failing:
                        return True
                elif time.monotonic() - ended_at > linger():
                    return False
            pause(POLL_SECONDS if writing else POLL_AT_END_SECONDS)

    def _try(self, retry: _Retry, advance: Callable[[], bool], *, writing: bool) -> bool:
        if not retry.is_due:
            return False
        from framework.tracking.projection import RunGoneError

        try:
            moved = advance()
        except Exception as error:  # of any kind: the journal has the records, and the next try may succeed
            self._say(error)
            if isinstance(error, RunGoneError):
                self._cursor.restart()
            retry.failed(limit_seconds=MAX_BACKOFF_SECONDS if writing else MAX_BACKOFF_AT_END_SECONDS)
            self._note(self._said)
            return False
        if retry.failing:
            retry.succeeded()
            self._said = ""
            self._note("")
        return moved

    def _say(self, error: Exception) -> None:
        lines = str(error).splitlines() or [""]
        text = f"{type(error).__name__}: {lines[0][:300]}"
        text = without_secrets(text, uri=os.environ.get(URI_VARIABLE, ""), environment=os.environ)
        if text != self._said:
            self._said = text
            print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)

    def _note(self, problem: str) -> None:
        self._cursor.problem = problem
        with contextlib.suppress(OSError):  # a full disk: the note is for people only, and the position has not moved
            self._cursor.save()


def main(arguments: list[str] | None = None) -> int:
    """Run the upload process and return its exit code; see the module's text."""
    options = _parse(arguments)
    if options.parent:
        os.nice(NICENESS)
    uri = os.environ.get(URI_VARIABLE)
    if not uri:  # the user must confirm what the journal names: see framework sync
        print(f"{URI_VARIABLE} does not say where to upload to", flush=True)
        return INCOMPLETE
    trainer = Trainer(options.parent) if options.parent else None
    with _only_one(options.run, trainer) as alone:
        if not alone:
            print(f"another process is uploading {options.run} already", flush=True)
            return BUSY
        os.environ.update(mlflow_environment())
        return _upload(options, uri=uri, trainer=trainer)


def _upload(options: argparse.Namespace, *, uri: str, trainer: Trainer | None) -> int:
    from framework.tracking.projection import Projection
    from framework.tracking.queues import UploadQueues

    def linger_seconds() -> float:
        if not (options.run / JOURNAL_NAME).exists():
            return 0.0
        # If the run has been resumed meanwhile, its new upload process waits for this one and goes on with its work.
        replaced = trainer is not None and (trainer.hurry or writer_is_alive(options.run / WRITER_LOCK_NAME))
        return 0.0 if replaced else options.linger_seconds

    cursor = Cursor.load(options.run, uri=uri)
    if options.rebuild:
        cursor.restart()
    projection = Projection(move_credentials(uri, environment=os.environ))
    queues = UploadQueues(options.run, projection=projection, cursor=cursor)
    upload = Upload(queues, cursor=cursor)
    complete = upload.follow(
        is_writing=trainer.is_writing if trainer else lambda: False,
        pause=trainer.pause if trainer else time.sleep,
        linger=linger_seconds,
    )
    return COMPLETE if complete else INCOMPLETE


@contextlib.contextmanager
def _only_one(run_folder: Path, trainer: Trainer | None) -> Iterator[bool]:
    """Hold the run's upload lock while the block runs; yield False if another process keeps it."""
    folder = run_folder / TRACKING_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock = ProcessLock(folder / "upload.lock")
    give_up_at = time.monotonic() + (LOCK_WAIT_SECONDS if trainer is None else LINGER_SECONDS)
    while not lock.take():
        if time.monotonic() > give_up_at:
            yield False
            return
        # The upload process of the previous launch may still be at work; it ends when that launch's records are sent,
        # or as soon as one of its requests fails.
        if trainer and trainer.is_writing():
            give_up_at = time.monotonic() + LINGER_SECONDS
        (trainer.pause if trainer else time.sleep)(POLL_AT_END_SECONDS)
    if not lock.guards:
        print(f"{folder} has no file locks: nothing keeps two uploads of this run apart", flush=True)
    with lock:
        yield True


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="framework.tracking.upload")
    parser.add_argument("run", type=lambda text: Path(text).resolve())
    parser.add_argument("--parent", type=int, help="process id of the trainer; absent: upload once")
    parser.add_argument("--rebuild", action="store_true", help="send everything again from the first record")
    parser.add_argument("--linger-seconds", type=float, default=LINGER_SECONDS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
