"""The checkpoints of a run as their JSON files describe them, for the upload and the review, which need no torch.

The format is `framework.checkpoint.layout`'s. Only names, sizes, hashes and scores are read here, never a tensor.
Scores are in `scores.json`, key -> number, and with their protocols in `evaluation.json`, `{"records": {key: {"value":
number, "protocol": {...}}}}`; a key is a metric's name or, as `framework.evaluation` writes it, `<name>-<hash of the
protocol>`. Two values of different protocols are different quantities, so a score carries that hash everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.utils.bounded import decoding, is_count, read_object
from framework.utils.errors import FrameworkError

# Tags of an MLflow model (the first also of a run) by which its checkpoint is found again.
LOCATION_TAG, HOST_TAG, SHA256_TAG = "framework.checkpoint", "framework.host", "framework.manifest_sha256"
# SQL registries keep no link from a version to its logged model, so a tag does.
MODEL_TAG = "framework.model_id"

MANIFEST_NAME = "manifest.json"
SCORES_NAME, RECORDS_NAME = "scores.json", "evaluation.json"
CHECKPOINTS_FOLDER = "checkpoints"

_HASH = re.compile(r"[0-9a-f]{8}")
_KEY = re.compile(r"(?P<name>.+)-(?P<hash>[0-9a-f]{8})")
_COMPLETE = re.compile(r"0|[1-9][0-9]*")
# Everything else that evaluation measures is a distance: less is better.
_HIGHER_IS_BETTER = re.compile(r"precision|recall|density|coverage|inception_score|(^|_)isc?($|_|\d)|lpips|diversity")


class DamagedError(FrameworkError):
    """A manifest or a score file is damaged; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric's value and the protocol it was measured under; None where none was recorded."""

    name: str
    value: float
    protocol: Mapping[str, Any] | None = None

    @property
    def protocol_id(self) -> str:
        """Eight hex digits, equal for comparable protocols and for no others; empty without a protocol."""
        if self.protocol is None:
            return ""
        stated = self.protocol.get("hash")
        if isinstance(stated, str) and _HASH.fullmatch(stated):
            return stated
        canonical = json.dumps(self.protocol, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    @property
    def lower_is_better(self) -> bool:
        """True if a smaller value is the better one: as the protocol says, else by the name."""
        options = self.protocol.get("options") if self.protocol is not None else None
        better = options.get("higher_is_better") if isinstance(options, Mapping) else None
        if self.protocol is not None and isinstance(better, list):
            return self.protocol.get("metric") not in better
        return not _HIGHER_IS_BETTER.search(self.name.lower())

    @property
    def chart(self) -> str:
        """The name of its chart: `metrics/fid50k-3fa2b1c0`, one chart per protocol; `metrics/fid50k` without one."""
        return f"metrics/{self.name}-{self.protocol_id}" if self.protocol_id else f"metrics/{self.name}"


@dataclass(frozen=True, kw_only=True)
class KeptCheckpoint:
    """A complete checkpoint on disk."""

    images_seen: int
    path: Path
    world: int
    num_bytes: int
    sha256: str
    """The manifest's own digest; through it, every byte of the checkpoint is fixed."""
    weights: dict[str, str]
    """File -> sha256 of the averaged generator: all that sampling needs, documents included."""
    time_ms: int
    data: dict[str, Any] = field(default_factory=dict)
    """`fingerprint` and `count` of the data it was trained on."""


def checkpoint_paths(run_folder: Path) -> dict[int, Path]:
    """Return images seen -> folder for every complete checkpoint of a run, in ascending order."""
    folder = run_folder / CHECKPOINTS_FOLDER
    try:
        found = [path for path in folder.iterdir() if _COMPLETE.fullmatch(path.name)]
    except FileNotFoundError:
        return {}
    return {
        int(path.name): path for path in sorted(found, key=lambda p: int(p.name)) if (path / MANIFEST_NAME).exists()
    }


def read_checkpoint(path: Path) -> KeptCheckpoint:
    """Read one checkpoint's manifest.

    Raises:
        DamagedError: it does not match its own sha256, or is no manifest.
        FileNotFoundError: it was deleted meanwhile (retention).
    """
    file = path / MANIFEST_NAME
    content, time_ms = read_object(file, error=DamagedError), file.stat().st_mtime_ns // 1_000_000
    body = {name: value for name, value in content.items() if name != "sha256"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if content.get("sha256") != hashlib.sha256(canonical.encode()).hexdigest():
        raise DamagedError(f"{file} does not match its own sha256")
    with decoding(file, error=DamagedError):  # it may be signed and still be no manifest
        files, data = content["files"], content["record"].get("data", {})
        clocks = [content["images"], content["world"], *(digest["bytes"] for digest in files.values())]
        if not all(is_count(number) for number in clocks):
            raise DamagedError(f"{file} is damaged: images, world and bytes must be counts")
        return KeptCheckpoint(
            images_seen=clocks[0],
            path=path,
            world=clocks[1],
            num_bytes=sum(clocks[2:]),
            sha256=content["sha256"],
            weights={name: str(files[name]["sha256"]) for name in sorted(_for_sampling(content))},
            time_ms=time_ms,
            data=dict(data) if isinstance(data, dict) else {},
        )


def read_score_file(path: Path) -> dict[str, Any]:
    """Return the records of the checkpoint folder `path`, as `scores_from` takes them; empty if there are none.

    Raises:
        DamagedError: one of the files is no JSON object of its kind.
    """
    records = _read_object(path / RECORDS_NAME).get("records", {})
    if not isinstance(records, dict):
        raise DamagedError(f"{path / RECORDS_NAME} is damaged: `records` must map names to records")
    return _read_object(path / SCORES_NAME) | records


def scores_written_ns(path: Path) -> int:
    """Return when the scores of a checkpoint folder were last written, by its file system's clock; 0 without any."""
    found = [file.stat().st_mtime_ns for name in (SCORES_NAME, RECORDS_NAME) if (file := path / name).exists()]
    return max(found, default=0)


def _read_object(file: Path) -> dict[str, Any]:
    try:
        return read_object(file, error=DamagedError)
    except FileNotFoundError:
        return {}


def score_from_chart(chart: str, value: float) -> Score | None:
    """Return the score that was logged under a chart's name, its protocol known by hash only; None for other names."""
    match = _KEY.fullmatch(chart.removeprefix("metrics/"))
    if match is None or not chart.startswith("metrics/"):
        return None
    return Score(name=match["name"], value=value, protocol={"hash": match["hash"]})


def chart_of(name: str, record: Any) -> str:
    """Return the chart in which a record of `scores.json` belongs, also if its value is missing."""
    protocol = record.get("protocol") if isinstance(record, dict) else None
    name, protocol = _split(name, protocol if isinstance(protocol, dict) else None)
    return Score(name=name, value=0.0, protocol=protocol).chart


def missing_from(records: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics that could not be measured: name -> reason."""
    return {
        str(name): str(record["missing"])
        for name, record in records.items()
        if isinstance(record, dict) and record.get("missing")
    }


def scores_from(records: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the scores of a mapping name -> number or `{"value", "protocol"}`; a metric marked as missing gives none.

    Raises:
        ValueError: a value is no finite number, or a protocol is no object.
    """
    for name, record in records.items():
        value, protocol = (record.get("value"), record.get("protocol")) if isinstance(record, dict) else (record, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name!r} is {value!r}, not a finite number")
        if protocol is not None and not isinstance(protocol, dict):
            raise ValueError(f"the protocol of {name!r} is not an object")
        plain, protocol = _split(str(name), protocol)
        yield Score(name=plain, value=float(value), protocol=protocol)


def _split(key: str, protocol: dict[str, Any] | None) -> tuple[str, dict[str, Any] | None]:
    """Return a metric's name and protocol from `fid50k-1a2b3c4d`; the hash may be all that is known of the protocol."""
    match = _KEY.fullmatch(key)
    if match and protocol is None:
        return match["name"], {"hash": match["hash"]}
    return (match["name"] if match and protocol and protocol.get("hash") == match["hash"] else key), protocol


def best_of(scores: Mapping[int, list[Score]]) -> dict[str, tuple[int, Score]]:
    """Return chart name -> (images seen, score) of the best value; of equal values, the earliest."""
    best: dict[str, tuple[int, Score]] = {}
    for images in sorted(scores):
        for score in scores[images]:
            held = best.get(score.chart)
            sign = 1 if score.lower_is_better else -1
            if held is None or sign * score.value < sign * held[1].value:
                best[score.chart] = (images, score)
    return best


def _for_sampling(content: Mapping[str, Any]) -> set[str]:
    """Return the files with averaged tensors, and the documents (not the index of the training state)."""
    kinds = {key: key.split("/")[1:2] for key in content["tensors"] if not key.startswith("state/")}
    averaged = [key for key, kind in kinds.items() if kind in (["ema"], ["ema_buffer"])]
    documents = {name for name in content["files"] if name.endswith(".json") and not name.startswith("state")}
    return documents | {piece[2] for key in averaged for piece in content["tensors"][key]["pieces"]}
