"""Set up the watchdog of a run: where it keeps notes, where stacks go, and what a waiting process waits for."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import torch.distributed as dist

from framework.data.joined import SampleStream
from framework.data.plan import rank_positions
from framework.runtime.session import Session
from framework.runtime.watchdog import Progress, Watchdog

CONNECT_SECONDS = 60.0
"""The longest time to wait for the store of the launch."""
_SHOWN = 4

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watching(session: Session, *, stall_seconds: float, folder: Path) -> Iterator[Watchdog]:
    """Watch this process for the duration of the block; every process must enter (a collective).

    Args:
        stall_seconds: the longest time without progress.
        folder: where the stacks of stalled processes go.
    """
    prefix = session.broadcast_text(uuid.uuid4().hex[:12] if session.is_main else None)
    watchdog = Watchdog(
        Progress(),
        rank=session.rank,
        world=session.world,
        stall_seconds=stall_seconds,
        folder=folder,
        store=_connect() if session.world > 1 else None,
        store_name=f"the store of this launch at {_address()} (kept by the first machine's launcher, or by rank 0)",
        prefix=prefix,
    )
    with watchdog:
        yield watchdog


def _address() -> str:
    return f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"


def _connect() -> dist.Store | None:
    """Connect once more to the store by which the processes met; the process group's connection may hang for ever."""
    try:
        return dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=datetime.timedelta(seconds=CONNECT_SECONDS),
        )
    except (KeyError, RuntimeError) as error:
        log.warning("no notes from other processes, so a stall would be found without naming its cause: %s", error)
        return None


def awaited(
    stream: SampleStream,
    progress: Progress,
    *,
    shift_images: int,
    batch_size: int,
    micro_batches: int,
    rank: int,
    world: int,
) -> Callable[[], str]:
    """Return what describes the data that a process waits for: the batch after the clock, and its shards.

    Args:
        shift_images: images by which the position in the data is ahead of the clock.
        batch_size: size of a global batch.
    """

    def details() -> str:
        share = {"batch_size": batch_size, "micro_batches": micro_batches, "rank": rank, "world": world}
        slices = rank_positions(progress.images_seen + shift_images, **share)
        shards = stream.shards_at([position for micro in slices for position in micro])
        more = f" and {len(shards) - _SHOWN} more" if len(shards) > _SHOWN else ""
        where = str(stream.describe()["location"])
        parts = f"{', '.join(shards[:_SHOWN])}{more} of " if shards else ""
        return f"the batch at {progress.images_seen:,} images, from {parts}{where}"

    return details
