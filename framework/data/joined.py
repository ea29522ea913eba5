"""Several sources on one clock: at every position each gives its own sample, in its own order and epoch.

Nothing is remembered, so the stream begins at any position at once, and reads the same on any number of processes.
(Programs for unpaired sets commonly draw the partner with replacement; here every sample comes once in its own epoch.)
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from framework.data.batches import Batch, BatchIterator


class SampleStream(Protocol):
    """What training needs of a stream, of one source or of several."""

    count: int
    fingerprint: str
    class_names: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Return what was opened and how, as plain values for the record of a run."""
        ...

    def shards_at(self, positions: list[int]) -> list[str]:
        """Return the names of the shards that hold the samples at some positions, each once."""
        ...

    def batches(
        self,
        start: int,
        *,
        batch_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world: int = 1,
        stop: int | None = None,
    ) -> BatchIterator:
        """Return this rank's part of the global batches from position `start` on."""
        ...


def seed_of(seed: int, name: str) -> int:
    """Return the seed of a source among several: equal orders would always pair the same samples."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


class JoinedStream:
    """The streams of several sources as one.

    Args:
        streams: the stream of each source by name, made with the seed that `seed_of` says.

    Attributes:
        count: number of samples in an epoch of the first source.
        fingerprint: identity of the data of all sources.
        class_names: names of the classes of the first source that has some.
    """

    def __init__(self, streams: Mapping[str, SampleStream]) -> None:
        self._streams = dict(streams)
        first = next(iter(self._streams.values()))
        self.count: int = first.count
        told = [[name, stream.fingerprint] for name, stream in self._streams.items()]
        self.fingerprint: str = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        names = (stream.class_names for stream in self._streams.values() if stream.class_names)
        self.class_names: tuple[str, ...] = next(names, ())

    def describe(self) -> dict[str, Any]:
        """Return what was opened and how, as plain values for the record of a run."""
        told = {name: stream.describe() for name, stream in self._streams.items()}
        return {
            "location": ", ".join(str(one["location"]) for one in told.values()),
            "name": ", ".join(self._streams),
            "count": self.count,
            "fingerprint": self.fingerprint,
            "sources": told,
        }

    def shards_at(self, positions: list[int]) -> list[str]:
        """Return the names of the shards that hold the samples at some positions, each with its source in front."""
        return [f"{name}/{shard}" for name, stream in self._streams.items() for shard in stream.shards_at(positions)]

    def batches(
        self,
        start: int,
        *,
        batch_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world: int = 1,
        stop: int | None = None,
    ) -> JoinedBatches:
        """Return this rank's part of the global batches from position `start` on; see `Stream.batches`.

        Raises:
            DataError: an argument is out of range.
        """
        share = {"batch_size": batch_size, "micro_batches": micro_batches, "rank": rank, "world": world, "stop": stop}
        return JoinedBatches(self._streams.values(), start, share)


class SideBySide(BatchIterator):
    """The iterator over a rank's batches of several streams at the same positions.

    Args:
        streams: what is read; if one of them does not open, those before it are closed.
        start, share: what their `batches` takes.
    """

    def __init__(self, streams: Iterable[SampleStream], start: int, share: Mapping[str, Any]) -> None:
        self._parts: list[BatchIterator] = []
        try:
            for stream in streams:
                self._parts.append(stream.batches(start, **share))
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def joined(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Return the fields (n, ...) of samples that are made of one batch of each stream."""

    def __next__(self) -> Batch:
        try:
            parts = [next(batches) for batches in self._parts]
        except BaseException:
            self.close()
            raise
        return replace(
            parts[0],
            fields=self.joined(parts),
            keys=[" ".join(keys) for keys in zip(*(part.keys for part in parts), strict=True)],
            skipped=[text for part in parts for text in part.skipped],
            wait_seconds=sum(part.wait_seconds for part in parts),
        )

    def close(self) -> None:
        """Stop and join the workers of all streams."""
        with ExitStack() as stack:  # all of them, whatever one raises
            for batches in self._parts:
                stack.callback(batches.close)


class JoinedBatches(SideBySide):
    """The iterator over a rank's batches of several sources."""

    def joined(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Return the fields of all sources."""
        return {name: values for part in parts for name, values in part.fields.items()}
