"""Run folders: the journal, the upload's cursor, the recipe, and the page that shows all of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from framework.evaluation.protocol import read_records
from framework.media.game_page import game_page
from framework.media.game_strip import game_strip
from framework.review.page import render
from framework.review.run import read_run
from framework.tracking.cursor import Cursor
from framework.tracking.frames import FramesFile, read_recording
from framework.tracking.journal import Journal
from framework.tracking.models import latest_metrics, logged_times
from framework.tracking.records import last_start
from framework.train.folder import RunFolder
from tests.fuzz.mutation import damaged, json_edited, json_lines_edited, json_signed
from tests.fuzz.reader import Reader, Target
from tests.helpers.games import CLOCKS, frame, scene
from tests.helpers.run_folders import fid, show_all_kinds, write_run, write_scores

URI = "http://127.0.0.1:5000"
logging.getLogger("framework").setLevel(logging.ERROR)


def _run(folder: Path) -> None:
    tracker = write_run(folder, uri=None, steps=range(40, 321, 40), grids=(0, 320), checkpoints=(320,), status=None)
    show_all_kinds(tracker, images_seen=320)
    tracker.health("sign_saturation", "warn", images_seen=120, reason="0.9 > 0.8", remedy="ADA")
    tracker.finish("FINISHED")
    write_scores(folder, 320, {"fid50k-1a2b3c4d": fid(12.5), "kid": 0.5})
    cursor = Cursor.load(folder, uri=URI)
    cursor.run_id, cursor.experiment_id, cursor.status = "r", "1", "RUNNING"
    cursor.points.move(folder / "journal.jsonl", to_bytes=200)
    cursor.models["d" * 64] = {"images": 320, "model_id": "m", "kept": True, "scores": {"a": 1.0}, "scores_ns": 5}
    cursor.save()
    cursor.path.rename(folder / "cursor.json")


def _resume(folder: Path) -> Any:
    journal = Journal(folder)
    try:
        journal.write("metrics", {"images": 10_000, "values": {"loss/D": 1.0}})
        state = journal.state
    finally:
        journal.close()
    (folder / "journal.lock").unlink(missing_ok=True)
    return state.high_water_images


def _started(folder: Path) -> Any:
    path = folder / "journal.jsonl"
    latest_metrics(path, images_seen=320)
    logged_times(path, images_seen=320)
    return last_start(path)["uid"]


def _cursor(folder: Path) -> Any:
    path = Cursor.load(folder, uri=URI).path
    path.unlink(missing_ok=True)
    path.symlink_to(folder / "cursor.json")
    cursor = Cursor.load(folder, uri=URI)
    Cursor.read_uri(path)
    cursor.models_are_behind(folder)
    cursor.has_score("a", images_seen=320)
    path.unlink()
    cursor.save()
    path.unlink()
    return cursor.run_id in ("", "r") or None


def _played(folder: Path) -> None:
    _run(folder)
    file = FramesFile(folder, scene())
    file.begin(images_seen=-1, total_images=128)
    for images in CLOCKS:
        file.append(frame(images))


def _game(folder: Path) -> Any:
    FramesFile(folder, scene()).begin(images_seen=32, total_images=64)
    return True


def _game_page(folder: Path) -> Any:
    recording = read_recording(folder)
    return recording and len(game_page([recording]).encode()) > 0 and len(game_strip(recording).encode()) > 0


def _page(folder: Path) -> Any:
    return len(render([read_run(folder)]).encode()) > 0


class _Alone:
    """One process, as `RunFolder` needs it."""

    is_main = True

    def broadcast_text(self, text: str | None) -> str:
        assert text is not None
        text.encode()
        return ""


def _recipe(folder: Path) -> Any:
    from recipes.sagan_fashion import RECIPE

    RunFolder(path=folder).refuse_another_recipe(RECIPE, _Alone())  # type: ignore[arg-type]


def _evaluated(folder: Path) -> None:
    protocol = {
        "metric": "fid",
        "definition": "d",
        "extractor": {"name": "i"},
        "reference": {},
        "generated": {},
        "options": {},
    }
    record = {"value": 1.5, "protocol": protocol, "details": {"spread": 0.1}, "cost": {"seconds": 2}}
    (folder / "evaluation.json").write_text(json.dumps({"format": 1, "records": {"fid50k-1a2b3c4d": record}}))


def _records(folder: Path) -> Any:
    return {key: record.to_json() for key, record in read_records(folder).items()}


_LINES = (damaged, json_lines_edited, json_lines_edited)
_JSON = (damaged, json_edited, json_edited)

READERS = (
    Reader(name="journal, resumed", make=_run, read=_resume, targets=(Target(path="journal.jsonl", mutators=_LINES),)),
    Reader(
        name="journal, uploaded", make=_run, read=_started, targets=(Target(path="journal.jsonl", mutators=_LINES),)
    ),
    Reader(name="upload cursor", make=_run, read=_cursor, targets=(Target(path="cursor.json", mutators=_JSON),)),
    Reader(name="recipe.json of a run", make=_run, read=_recipe, targets=(Target(path="recipe.json", mutators=_JSON),)),
    Reader(
        name="review page",
        make=_run,
        read=_page,
        targets=(
            Target(path="journal.jsonl", mutators=_LINES),
            Target(path="recipe.json", mutators=_JSON),
            Target(path="checkpoints/320/scores.json", mutators=_JSON),
            Target(path="checkpoints/320/manifest.json", mutators=(damaged, json_signed)),
            Target(path="samples/ema-000000320.png"),
            Target(path="samples/ring-000000320.png"),
            Target(path="samples/speech-000000320.html"),
            Target(path="samples/table-000000320.html"),
        ),
    ),
    Reader(
        name="frames of a game",
        make=_played,
        read=_game_page,
        targets=(Target(path="frames.jsonl", mutators=_LINES), Target(path="journal.jsonl", mutators=_LINES)),
    ),
    Reader(
        name="frames of a game, resumed",
        make=_played,
        read=_game,
        targets=(Target(path="frames.jsonl", mutators=_LINES),),
    ),
    Reader(
        name="evaluation.json",
        make=_evaluated,
        read=_records,
        targets=(Target(path="evaluation.json", mutators=_JSON),),
    ),
)
