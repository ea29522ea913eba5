"""The record beside a shard of somebody else: of wrong types or too large to be one, it is made anew or named."""

import json
import os
from pathlib import Path

import pytest

from framework.data.errors import DataError
from framework.data.survey import ShardSurvey, survey_local
from tests.unit.data.stream_helpers import make_set

NAME = "train-000000.survey.json"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard with its record, in a folder of its own."""
    path = make_set(tmp_path / "a", sizes=(4,), side=16, classes=3, manifest=False) / "train-000000.tar"
    survey_local(path, cache_folder=tmp_path / "cache")
    return path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 1),
        ("format", None),
        ("count", "4"),
        ("count", 4.0),
        ("count", True),
        ("count", -1),
        ("count", 2**70),
        ("bytes", [4]),
        ("sha256", 5),
        ("resolution", None),
        ("channels", {}),
        ("labels", [[0, 1]]),
        ("labels", {"x": 1}),
        ("labels", {"0": "1"}),
        ("labels", {"-1": 1}),
        ("labels", {"1000000000": 1}),
        ("labels", {"0": 5}),
        ("encodings", 7),
        ("encodings", [7]),
        ("unusable_label", ["a"]),
        ("modified_ns", "now"),
        ("another", 1),
    ],
)
def test_a_field_of_another_type_makes_it_anew(shard: Path, tmp_path: Path, field: str, value: object) -> None:
    record = shard.with_name(NAME)
    good = json.loads(record.read_text())
    record.write_text(json.dumps(good | {field: value}))
    assert ShardSurvey.from_text(record.read_bytes()) is None
    survey, _ = survey_local(shard, cache_folder=tmp_path / "cache")
    assert survey.labels == {0: 2, 1: 1, 2: 1}
    assert json.loads(record.read_text()) == good


@pytest.mark.parametrize("content", [b"", b"3", b"[]", b"null", b"\xff", b'{"format": 2', b"[" * 100_000])
def test_what_is_no_record_is_made_anew(shard: Path, tmp_path: Path, content: bytes) -> None:
    record = shard.with_name(NAME)
    good = record.read_bytes()
    record.write_bytes(content)
    survey_local(shard, cache_folder=tmp_path / "cache")
    assert record.read_bytes() == good


def test_a_record_without_a_field_is_made_anew(shard: Path) -> None:
    good = json.loads(shard.with_name(NAME).read_text())
    for field in set(good) - {"unusable_label", "modified_ns"}:
        assert ShardSurvey.from_text(json.dumps({k: v for k, v in good.items() if k != field})) is None


def test_a_record_that_cannot_be_one_is_an_error(shard: Path, tmp_path: Path) -> None:
    record = shard.with_name(NAME)
    os.truncate(record, 1 << 40)
    with pytest.raises(DataError, match=rf"{NAME} has \d+ bytes, more than"):
        survey_local(shard, cache_folder=tmp_path / "cache")
    record.unlink()
    os.mkfifo(record)
    with pytest.raises(DataError, match=rf"{NAME} is not a regular file"):
        survey_local(shard, cache_folder=tmp_path / "cache")
