"""Errors of the data room: each names the place (file, shard, sample key), what is wrong there, and what to do."""

from __future__ import annotations

from framework.errors import FrameworkError


class DataError(FrameworkError):
    """A data set, its location or an option of the stream is wrong."""


class ManifestError(DataError):
    """`manifest.json` or a `.idx` file is missing, malformed, or contradicts itself."""


class ShardError(DataError):
    """A shard, or one sample of it, cannot be used.

    Args:
        shard: path or address of the shard.
        why: what is wrong with it.
        key: key of the sample, where one sample is at fault and not the whole shard.
    """

    def __init__(self, shard: object, why: str, *, key: str | None = None) -> None:
        self.shard, self.why, self.key = str(shard), why, key
        super().__init__(f"shard {self.shard}" + (f", sample {key}" if key else "") + f": {why}")


class WorkerError(DataError):
    """A loading worker died or stopped answering."""
