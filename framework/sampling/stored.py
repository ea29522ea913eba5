"""Real samples by position, in a fixed order: what samplers translate, and what samples are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from framework.data.fields import INDEX_SUFFIX, Field
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
        self._stream = open_stream(
            location, fields=self.fields, seed=_ORDER_SEED, workers=0, prefetch_batches=0, **cache
        )
        self.count: int = self._stream.count

    def describe(self) -> Mapping[str, Any]:
        """Return what identifies the samples, for protocols."""
        told = self._stream.describe()
        return {name: told[name] for name in ("name", "split", "fingerprint")}

    def rows(self, positions: range) -> dict[str, Tensor]:
        """Return the fields of the samples at these positions as a batch has them, each (n, ...), on the host.

        Positions beyond the last sample go on with the first ones.
        """
        with self._stream.batches(positions.start, batch_size=len(positions), stop=positions.stop) as batches:
            batch = next(batches)
        ours = {name for field in self.fields for name in (field.name, field.name + INDEX_SUFFIX)}
        return {name: rows for name, rows in batch.fields.items() if name in ours}
