"""A metric's value, the protocol that is part of it, and the records of both beside a checkpoint.

On identical weights the protocol alone moves FID by several points, so a number without it says nothing. A record holds
both. Two records may stand on one line only when `comparable` says so; the metric's name in plots ends in a hash of its
protocol (`metrics/fid50k-1a2b3c4d`), so that unequal ones cannot meet there by accident.

Records stand in `<checkpoint>/evaluation.json`, so that nothing is computed twice:

    {"format": 1, "records": {"fid50k-1a2b3c4d": {"value": ..., "protocol": {...}, ...}, ...}}

A record's key is its name and the hash of its protocol: a new protocol adds a record, the same one is found again.
Values also go into `scores.json` under the same keys, where retention looks for the best.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from framework.checkpoint.durable import read_json, write_json
from framework.checkpoint.layout import EVALUATION
from framework.checkpoint.retention import record_score
from framework.evaluation.errors import EvaluationError
from framework.tracking.checkpoints import Score
from framework.utils.leaves import leaves

RECORDS_FORMAT = 1


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
    if not isinstance(data, dict) or data.get("format") != RECORDS_FORMAT or not isinstance(data.get("records"), dict):
        raise EvaluationError(f"{path}: not records of format {RECORDS_FORMAT}; move the file away to evaluate again")
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
    write_json(checkpoint / EVALUATION, {"format": RECORDS_FORMAT, "records": document})
    for record in found:
        assert record.value is not None
        record_score(checkpoint, key_of(record), record.value)


FORMAT = 1
"""Version of the framework's own definitions: raised whenever one of them changes a number."""
_HASH_DIGITS = 8
# The same tensors in another file are the same network: `tensors_sha256` beside it decides.
_NOT_COMPARED = ("extractor.weights_sha256", "perceptual.weights_sha256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything a value depends on besides the images that are judged.

    Attributes:
        metric: `fid`, `kid`, `precision`, ...
        definition: the formula and its paper.
        extractor: name, layer, input (colours and resize filter), weights_sha256 (of the file), tensors_sha256.
        reference: the real set: kind, name, split, content hash (a manifest's fingerprint), count, resolution; empty
            for metrics that need none.
        generated: kind, count, resolution; for a generator also seed, weights (`ema` or `live`), truncation, psi,
            labels.
        options: settings of the metric (neighbours, subsets, features held in memory).
        dtype: types of features and of sums.
        versions: versions of the framework's definitions and of the libraries that computed.
        perceptual: facts about LPIPS, like those of `extractor`.
    """

    metric: str
    definition: str
    extractor: Mapping[str, Any]
    reference: Mapping[str, Any]
    generated: Mapping[str, Any]
    options: Mapping[str, Any]
    dtype: str = "float32 features, float64 statistics"
    versions: Mapping[str, Any] = dataclasses.field(default_factory=lambda: versions())
    perceptual: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `hash` is added for readers."""
        return json.loads(json.dumps(dataclasses.asdict(self))) | {"hash": self.hash}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Protocol:
        """Return the protocol that `to_json` wrote.

        Raises:
            EvaluationError: a field is missing or unknown, or the hash does not belong to it.
        """
        if not isinstance(data, Mapping):
            raise EvaluationError("not a protocol of this version: it is no object")
        fields = {name: value for name, value in data.items() if name != "hash"}
        texts = ("metric", "definition", "dtype")
        if not all(isinstance(value, str if name in texts else Mapping) for name, value in fields.items()):
            raise EvaluationError("not a protocol of this version: a field is of another type")
        try:
            protocol = cls(**fields)
        except TypeError as error:
            raise EvaluationError(f"not a protocol of this version: {error}") from None
        if protocol.hash != data.get("hash", protocol.hash):
            raise EvaluationError(f"the protocol was changed: its hash says {data['hash']}, it gives {protocol.hash}")
        return protocol

    @property
    def hash(self) -> str:
        """Eight hex digits; equal for comparable protocols and for no others."""
        text = json.dumps(self.compared(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]

    def compared(self) -> dict[str, Any]:
        """Return everything that must be equal in comparable protocols, by path, such as `extractor.input`."""
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        return {path: value for path, value in leaves(plain, lists=False) if path not in _NOT_COMPARED}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One metric of one set of images.

    Attributes:
        name: as it was asked for, with the count: `fid50k`, `precision`.
        value: None when it is missing.
        missing: the reason why there is no value; None when there is one.
        details: standard deviation, values per class, ...
        subject: what was judged: checkpoint and images seen, or a folder and its content hash.
        cost: seconds, ranks, device: what the measurement took; no part of the protocol.

    Raises:
        EvaluationError: a record with both a value and a reason or with neither, or a value that is not finite.
    """

    name: str
    value: float | None
    protocol: Protocol
    missing: str | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    subject: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cost: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.missing is None):
            raise EvaluationError(f"{self.name}: a record has a value or a reason why not")
        if self.value is not None and not math.isfinite(self.value):
            raise EvaluationError(f"{self.name}: {self.value} is no finite number")

    @property
    def series(self) -> str:
        """The name of the line in plots, one for each protocol: `metrics/fid50k-1a2b3c4d`."""
        return f"metrics/{self.name}-{self.protocol.hash}"

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return Score(name=self.name, value=0.0, protocol=self.protocol.to_json()).lower_is_better

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the name."""
        fields = {"value": self.value, "protocol": self.protocol.to_json(), "series": self.series}
        fields |= {"missing": self.missing} if self.missing else {}
        rest = {"details": self.details, "subject": self.subject, "cost": self.cost}
        return fields | {name: json.loads(json.dumps(value)) for name, value in rest.items() if value}

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> Record:
        """Return the record that `to_json` wrote.

        Raises:
            EvaluationError: the data is not a record of this version.
        """
        try:
            if type(data["value"]) not in (int, float, type(None)) or not isinstance(data.get("missing"), str | None):
                raise EvaluationError(f"not a record of a metric: the value of {name} is no number")
            if not all(isinstance(data.get(key, {}), Mapping) for key in ("details", "subject", "cost")):
                raise EvaluationError(f"not a record of a metric: {name} has details of another type")
            protocol = Protocol.from_json(data["protocol"])
            rest = {key: data[key] for key in ("missing", "details", "subject", "cost") if key in data}
            return cls(name=name, value=data["value"], protocol=protocol, **rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(f"not a record of a metric: {type(error).__name__} {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether two records may stand on one line, and if not, what differs: `extractor.input: ... / ...`."""

    comparable: bool
    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.comparable


def comparable(a: Record, b: Record) -> Comparison:
    """Compare the protocols of two records; the reasons name each field that differs."""
    left, right = a.protocol.compared(), b.protocol.compared()
    paths = [path for path in sorted({*left, *right}) if left.get(path) != right.get(path)]
    reasons = [f"{path}: {left.get(path, 'absent')} / {right.get(path, 'absent')}" for path in paths]
    reasons += [f"{record.name} is missing: {record.missing}" for record in (a, b) if record.missing]
    return Comparison(comparable=not reasons, reasons=tuple(reasons))


def versions() -> dict[str, Any]:
    """Return the versions of the framework's definitions, and of the libraries that decode, resize and add up."""
    return {
        "definitions": FORMAT,
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }
