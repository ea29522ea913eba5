"""What a `framework pack` leaves that was killed after some shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from framework.data.packing.staging import Staging
from tests.helpers.pictures import pack_quietly


class _KilledError(BaseException):
    """Passes everything that handles errors, as a signal would."""


def staging_left(source: Path, out: Path, *, shards: int, **options: Any) -> Path:
    """The staging folder of a data set of which so many shards are finished and stated."""
    record = Staging.record

    def record_or_end(self: Staging, **line: Any) -> None:
        if len(self.progress) == shards:
            raise _KilledError
        record(self, **line)

    with mock.patch.object(Staging, "record", record_or_end):
        try:
            pack_quietly(source, out, **options)
        except _KilledError:
            return out.parent / f".{out.name}.part"
    raise AssertionError("the data set has more shards")
