"""A number and its protocol: which records may stand on one line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from framework.evaluation.errors import EvaluationError
from framework.evaluation.protocol import Protocol, Record, comparable
from framework.tracking.records import check_name


def protocol(**changes: Any) -> Protocol:
    fields: dict[str, Any] = {
        "metric": "fid",
        "definition": "Frechet distance",
        "extractor": {"name": "inception", "input": "TF1 bilinear", "weights_sha256": "aa", "tensors_sha256": "bb"},
        "reference": {"name": "cifar10", "split": "train", "fingerprint": "cc", "count": 50_000},
        "generated": {"weights": "ema", "count": 50_000, "seed": 0, "psi": None},
        "options": {},
    }
    return Protocol(**fields | changes)


def record(value: float = 4.5, **changes: Any) -> Record:
    return Record(name="fid50k", value=value, protocol=protocol(**changes))


def test_equal_protocols_are_comparable_whatever_the_values() -> None:
    a, b = record(4.5), replace(record(7.0), subject={"checkpoint": "elsewhere"}, cost={"ranks": 4})
    assert comparable(a, b)
    assert comparable(a, b).reasons == ()
    assert a.series == b.series == f"metrics/fid50k-{a.protocol.hash}"
    assert check_name(a.series) == a.series


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extractor": {"name": "inception", "input": "Lanczos", "tensors_sha256": "bb"}}, "extractor.input"),
        ({"extractor": {"name": "inception", "input": "TF1 bilinear", "tensors_sha256": "zz"}}, "tensors_sha256"),
        ({"reference": {"name": "cifar10", "split": "test", "fingerprint": "cc", "count": 50_000}}, "reference.split"),
        ({"reference": {"name": "cifar10", "split": "train", "fingerprint": "dd", "count": 50_000}}, "fingerprint"),
        ({"generated": {"weights": "live", "count": 50_000, "seed": 0, "psi": None}}, "generated.weights: ema / live"),
        ({"generated": {"weights": "ema", "count": 10_000, "seed": 0, "psi": None}}, "count: 50000 / 10000"),
        ({"generated": {"weights": "ema", "count": 50_000, "seed": 1, "psi": None}}, "generated.seed"),
        ({"generated": {"weights": "ema", "count": 50_000, "seed": 0, "psi": 0.7}}, "generated.psi: None / 0.7"),
        ({"options": {"neighbours": 3}}, "options.neighbours: absent / 3"),
        ({"dtype": "float16"}, "dtype"),
        ({"versions": {"torch": "1.0"}}, "versions.torch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_difference_parts_the_lines_and_is_named(changes: dict[str, Any], reason: str) -> None:
    a, b = record(), record(**changes)
    found = comparable(a, b)
    assert not found
    assert any(reason in text for text in found.reasons), found.reasons
    assert a.series != b.series


def test_the_same_tensors_in_another_file_are_the_same_network() -> None:
    other = {"name": "inception", "input": "TF1 bilinear", "weights_sha256": "other file", "tensors_sha256": "bb"}
    assert comparable(record(), record(extractor=other))


def test_a_missing_record_has_a_reason_and_compares_with_nothing() -> None:
    missing = Record(name="fid50k", value=None, missing="no network", protocol=protocol())
    assert "no network" in comparable(record(), missing).reasons[0]
    assert "value" in missing.to_json()
    assert missing.to_json()["value"] is None
    for value, reason in ((None, None), (1.0, "both"), (float("nan"), None)):
        with pytest.raises(EvaluationError):
            Record(name="fid", value=value, missing=reason, protocol=protocol())


def test_records_survive_json_and_a_changed_protocol_is_noticed() -> None:
    before = replace(record(), details={"std": 0.1}, subject={"images_seen": 5}, cost={"seconds": 2.0})
    data = json.loads(json.dumps(before.to_json()))
    assert Record.from_json("fid50k", data) == before
    data["protocol"]["reference"]["split"] = "test"
    with pytest.raises(EvaluationError, match="hash"):
        Record.from_json("fid50k", data)
    del data["protocol"]["reference"]
    with pytest.raises(EvaluationError):
        Record.from_json("fid50k", data)


def test_the_hash_of_a_protocol_is_for_ever() -> None:
    """Scores of earlier years are found by it: lists count whole, an empty group not at all."""
    pinned = Protocol(
        metric="fid",
        definition="d",
        extractor={"name": "x", "weights_sha256": "another file", "none": {}},
        reference={"resolution": [32, 32], "parts": [{"a": [1]}]},
        generated={},
        options={"empty": []},
        versions={"definitions": 1},
    )
    assert pinned.compared()["reference.resolution"] == [32, 32]
    assert pinned.hash == "80048597"
