"""Records stand beside their checkpoint, in `<checkpoint>/evaluation.json`, so that nothing is computed twice.

    {"format": 1, "records": {"fid50k-1a2b3c4d": {"value": ..., "protocol": {...}, ...}, ...}}

A record's key is its name and the hash of its protocol: a new protocol adds a record, the same one is found again.
Values also go into `scores.json` under the same keys, where retention looks for the best.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from framework.checkpoint.durable import read_json, write_json
from framework.checkpoint.layout import EVALUATION
from framework.checkpoint.retention import record_score
from framework.evaluation.errors import EvaluationError
from framework.evaluation.protocol import Record

FORMAT = 1


def key_of(record: Record) -> str:
    """Return the key of a record: its name and the hash of its protocol, such as `fid50k-1a2b3c4d`."""
    return record.series.partition("/")[2]


def read_records(checkpoint: Path) -> dict[str, Record]:
    """Return all records of a checkpoint by key; empty where there are none.

    Raises:
        EvaluationError: the file is of another format or was changed.
        CheckpointError: the file is damaged.
    """
    path = checkpoint / EVALUATION
    if not path.exists():
        return {}
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("records"), dict):
        raise EvaluationError(f"{path}: not records of format {FORMAT}; move the file away to evaluate again")
    try:
        return {key: Record.from_json(key.rpartition("-")[0], value) for key, value in data["records"].items()}
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error}; move the file away to evaluate again") from None


def write_records(checkpoint: Path, records: Iterable[Record]) -> None:
    """Add records to those of a checkpoint, atomically; missing ones are left out, so that they are tried again.

    Raises:
        EvaluationError: the checkpoint's present records are of another format or were changed.
        CheckpointError: the file of the present records is damaged.
    """
    found = [record for record in records if record.value is not None]
    if not found:
        return
    known = read_records(checkpoint) | {key_of(record): record for record in found}
    document = {key: record.to_json() for key, record in sorted(known.items())}
    write_json(checkpoint / EVALUATION, {"format": FORMAT, "records": document})
    for record in found:
        assert record.value is not None
        record_score(checkpoint, key_of(record), record.value)
