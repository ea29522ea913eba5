"""A checkpoint's record is checked, field by field, before training takes anything from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from framework.checkpoint import Checkpoint, CheckpointError, Retention, Writer
from framework.train.record_check import check_record
from tests.fuzz.records import RECORD

PLAYERS = ("generator", "discriminator")


def written(folder: Path, record: dict[str, Any]) -> Checkpoint:
    """A signed checkpoint with this record."""
    with Writer(folder, rank=0, world=1, token="t", retention=Retention(last=None)) as writer:
        writer.save(64, [], documents={}, record=record)
        writer.wait()
    return Checkpoint.open(folder / "64")


def changed(path: str, value: object) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    holder: Any = record
    *way, last = path.split(".")
    for name in way:
        holder = holder[name]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return record


def test_what_training_writes_passes(tmp_path: Path) -> None:
    check_record(written(tmp_path / "a", RECORD), players=PLAYERS)
    older = {name: RECORD[name] for name in ("players", "skipped_steps", "science_hash", "data")}
    check_record(written(tmp_path / "b", older | {"a later version's": [1]}), players=PLAYERS)
    check_record(written(tmp_path / "c", RECORD | {"cut": None, "evaluation": None}), players=PLAYERS)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("players", 3, "record.players is 3 and must be an object"),
        ("players.generator", ..., "record.players.generator is None and must be there"),
        ("players.generator.steps_taken", "7", "record.players.generator.steps_taken is '7' and must be a count"),
        ("players.generator.steps_taken", -1, "must be a count"),
        ("players.generator.steps_taken", 1 << 80, "must be a count"),
        ("players.discriminator.engine_state", [], "must be an object"),
        ("players.discriminator.engine_state.loss_scale", 0, "loss_scale is 0 and must be a number above 0"),
        ("players.discriminator.engine_state.good_steps", ..., "good_steps is None and must be there"),
        ("players.generator.memory.path_length", [1], "memory.path_length is [1] and must be a number"),
        ("draws_version", 0, "record.draws_version is 0 and must be a count of at least 1"),
        ("draws_version", "2", "record.draws_version is '2' and must be a count of at least 1"),
        ("skipped_steps", True, "record.skipped_steps is True and must be a count"),
        ("skipped_samples", "many", "must be a number, not below 0"),
        ("science_hash", None, "record.science_hash is None and must be a text"),
        ("data", [], "record.data is [] and must be an object"),
        ("data.count", 1.5, "record.data.count is 1.5 and must be a count"),
        ("data.fingerprint", 3, "record.data.fingerprint is 3 and must be a text"),
        ("window.steps", "3", "record.window.steps is '3' and must be a count"),
        ("window.scores.loss/D", [], "must be a list of at least 1"),
        ("window.scores.loss/D", [["0x1p0"]], "must be a list of two"),
        ("window.scores.loss/D", [["0x1p0", "0x1p99999"]], "must be a number in hexadecimal"),
        ("window.scores.loss/D", [["0x1p0", 1.0]], "must be a number in hexadecimal"),
        ("cut", {"world": 0, "micro_batches": 1}, "record.cut.world is 0 and must be a count of at least 1"),
        ("cut", {"world": 1, "micro_batches": 1, "more": 1}, "must be an object of world, micro_batches"),
        ("health.watch.sign_real.health", 3, "must be a state from 0 to 2"),
        ("health.watch.sign_real.last_images", None, "must be a count"),
        ("health.baselines.logit_gap", ["1"], "must be a number"),
        ("health.real", {"x": {}}, "must be an object whose names are counts"),
        ("health.since_last_look.sums", {"a": [1.0, 0]}, "sums.a[1] is 0 and must be a count of at least 1"),
        ("rollbacks", {}, "record.rollbacks is {} and must be a list"),
        ("rollbacks", [{"from_images": 1, "to_images": 2, "reason": "x"}], "must be no more than from_images"),
        ("rollbacks", [{"from_images": 2, "to_images": 1}], "record.rollbacks[0].reason is None and must be there"),
        ("evaluation.best", {"a": [1]}, "must be a list of two"),
        ("evaluation.scores", [1], "record.evaluation.scores[0] is 1 and must be a text"),
    ],
)  # fmt: skip
def test_file_and_field_are_named(tmp_path: Path, path: str, value: object, named: str) -> None:
    checkpoint = written(tmp_path, changed(path, value))
    with pytest.raises(CheckpointError) as refused:
        check_record(checkpoint, players=PLAYERS)
    assert named in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/64/manifest.json: record")


def test_a_document_is_an_object(tmp_path: Path) -> None:
    with Writer(tmp_path, rank=0, world=1, token="t", retention=Retention(last=None)) as writer:
        writer.save(64, [], documents={"recipe.json": [1]}, record={})
        writer.wait()
    with pytest.raises(CheckpointError, match=r"recipe\.json is damaged: it must hold a JSON object"):
        Checkpoint.open(tmp_path / "64").document("recipe.json")
