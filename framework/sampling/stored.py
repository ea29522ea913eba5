"""Real samples by position, in a fixed order: what samplers translate, and what samples are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from framework.data.fields import INDEX_SUFFIX, Field, fields_of
from framework.data.joined import SampleStream
from framework.data.stacked import Stacked, StackedStream
from framework.data.stream import open_stream

_ORDER_SEED = 0
"""The seed of the order, so that the first N are a fair choice, the same for every run."""


class StoredSamples:
    """The samples of packed shards, neither mirrored nor cropped at random.

    Args:
        location: where the shards are, see `framework.data.sources`.
        fields: the fields to read.
        cache: arguments of `open_stream` about remote shards.

    Raises:
        FrameworkError: the shards cannot be read, or do not have the fields.
    """

    def __init__(self, location: str, fields: Sequence[Field], **cache: Any) -> None:
        self.fields = tuple(fields)
        self._stream = self._opened(location, **cache)
        self.count: int = self._stream.count

    def _opened(self, location: str, **cache: Any) -> SampleStream:
        return open_stream(location, fields=self.fields, seed=_ORDER_SEED, workers=0, prefetch_batches=0, **cache)

    def describe(self) -> Mapping[str, Any]:
        """Return what identifies the samples, for protocols."""
        told = self._stream.describe()
        return {name: told[name] for name in ("name", "split", "fingerprint")}

    def rows(self, positions: range) -> dict[str, Tensor]:
        """Return the fields of the samples at these positions as a batch has them, each (n, ...), on the host.

        Positions beyond the last sample go on with the first ones.
        """
        assert positions.step == 1
        assert len(positions) > 0
        # The stream has another order in every epoch, so all is read from the first one.
        parts, start = list[dict[str, Tensor]](), positions.start
        while start < positions.stop:
            first = start % self.count
            count = min(positions.stop - start, self.count - first)
            parts.append(self._first_epoch(first, count, before=start - positions.start))
            start += count
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _first_epoch(self, start: int, count: int, *, before: int) -> dict[str, Tensor]:
        """Read `count` samples, of which the first is sample `before` of what is returned."""
        with self._stream.batches(start, batch_size=count, stop=start + count) as batches:
            rows = next(batches).fields
        found: dict[str, Tensor] = {}
        for field in self.fields:
            found[field.name] = rows[field.name]
            if field.ragged:
                found[field.name + INDEX_SUFFIX] = rows[field.name + INDEX_SUFFIX] + before
        return found


class StackedSamples(StoredSamples):
    """The samples of a stacked source, whose channels are not mirrored.

    Args:
        location: where the grey pictures are, see `framework.data.sources`.
        source: what is stacked.
        cache: arguments of `open_stream` about remote shards.

    Raises:
        FrameworkError: the shards cannot be read, or do not have the fields.
    """

    def __init__(self, location: str, source: Stacked, **cache: Any) -> None:
        self._source = source
        super().__init__(location, source.fields, **cache)

    def describe(self) -> Mapping[str, Any]:
        """Return what identifies the samples, for protocols."""
        return {**super().describe(), "stacked": self._stream.describe()["stacked"]}

    def _opened(self, location: str, **cache: Any) -> SampleStream:
        def opened(seed: int) -> SampleStream:
            fields = fields_of(self._source.of)
            return open_stream(location, fields=fields, seed=seed, workers=0, prefetch_batches=0, **cache)

        return StackedStream(self._source, opened, seed=_ORDER_SEED)
