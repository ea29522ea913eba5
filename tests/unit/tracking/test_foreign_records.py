"""Images and records of a run folder from elsewhere: what cannot be sent is told, and the upload goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from framework.tracking.fields import is_record
from framework.tracking.previews import mlflow_names, stage
from framework.tracking.records import named_start
from framework.utils.errors import FrameworkError

NAMES = ("a.png", "a+compressed.webp")
START = {"kind": "start", "time_ms": 1, "uid": "u1", "uri": None}


def test_an_image_of_ours_is_staged_with_its_preview(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "own.png")
    (tmp_path / "out").mkdir()
    assert [path.name for path in stage(tmp_path / "own.png", NAMES, folder=tmp_path / "out")] == list(NAMES)


@pytest.mark.parametrize("kind", ["bomb", "cut", "text", "pipe"])
def test_no_image_is_told_before_it_takes_memory(tmp_path: Path, kind: str) -> None:
    path, out = tmp_path / "foreign.png", tmp_path / "out"
    out.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("no picture")
    else:
        Image.new("1", (40_000, 30_000) if kind == "bomb" else (64, 64)).save(path)
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FrameworkError, match=r"foreign\.png"):
        stage(path, NAMES, folder=out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("key", ["k" * 250, "a\0b"])
def test_names_that_no_file_can_have(key: str) -> None:
    with pytest.raises(ValueError, match="MLflow's file name"):
        mlflow_names({"key": key, "images": 1, "time_ms": 1, "token": "t"})


@pytest.mark.parametrize(
    "change", [{"uid": "u' OR ''='"}, {"uid": ""}, {"user": 3}, {"command": []}, {"experiment": None}]
)
def test_a_start_that_the_store_could_not_take_is_no_record(change: dict[str, Any]) -> None:
    assert is_record(START)
    assert not is_record(START | change)


@pytest.mark.parametrize("change", [{"form": None}, {"key": 3}, {"images": -1}, {"description": ["a"]}, {"file": {}}])
def test_what_is_shown_has_its_fields_or_is_no_record(change: dict[str, Any]) -> None:
    shown = {"kind": "media", "time_ms": 1, "key": "samples/a", "images": 1, "file": "a.html", "form": "sounds"}
    assert is_record(shown)
    assert is_record(shown | {"description": "two clips"})
    assert not is_record(shown | change)


def test_a_start_without_names_gets_some(tmp_path: Path) -> None:
    """Or the upload would try for ever."""
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind":"start","time_ms":1,"uid":"u1","uri":null}\n')
    start = named_start(path)
    assert (start["experiment"], start["run_name"]) == ("Default", tmp_path.name)
    assert (start["user"], start["command"]) == ("", "")
