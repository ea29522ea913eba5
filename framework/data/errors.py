"""Errors of the data room: each names the place (file, shard, sample key), what is wrong there, and what to do.

Addresses may hold passwords and tokens; no error shows them, whoever raises it.
"""

from __future__ import annotations

from framework.utils.errors import FrameworkError
from framework.utils.redaction import redact_text, redact_urls


def _writable(message: str) -> str:
    """Return the text without halves of characters, which names of files may hold and no terminal takes."""
    return message if message.isascii() else message.encode("utf-8", "backslashreplace").decode("utf-8")


class DataError(FrameworkError):
    """A data set, its location or an option of the stream is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_urls(_writable(message)))


class ManifestError(DataError):
    """`manifest.json` or a `.idx` file is missing, malformed, or contradicts itself."""


class ShardError(DataError):
    """A shard, or one sample of it, cannot be used.

    Args:
        shard: path or address of the shard.
        why: a clause that says what is wrong with it.
        key: key of the sample, where one sample is at fault and not the whole shard.
    """

    def __init__(self, shard: object, why: str, *, key: str | None = None) -> None:
        self.shard, self.why, self.key = redact_text(_writable(str(shard))), redact_urls(_writable(why)), key
        super().__init__(f"shard {self.shard}" + (f", sample {key}" if key else "") + f": {why}")


class WorkerError(DataError):
    """A loading worker died or stopped answering."""
