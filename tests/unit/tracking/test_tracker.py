import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.media import Media, PictureGrid
from framework.tracking import NullTracker, Tracker
from framework.tracking.records import JOURNAL_NAME, read_journal, scan_journal
from framework.tracking.shown import MAX_QUEUED
from framework.utils.errors import FrameworkError
from tests.helpers.journals import points, records
from tests.helpers.run_folders import show_all_kinds


def open_tracker(folder: Path) -> Tracker:
    return Tracker.open(folder, uri=None, experiment="unit", run_name="run")


def test_the_trainer_imports_neither_mlflow_nor_pandas_nor_torch() -> None:
    code = (
        "import sys, framework.tracking.system, framework.media; from framework.tracking import Tracker\n"
        "print([name for name in ('mlflow', 'pandas', 'torch', 'sqlalchemy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path / "run")
    tracker.params({"batch_size": 64, "generator": {"lr": 1e-4, "betas": (0.0, 0.9)}})
    tracker.tags({"framework.recipe": "sagan"})
    tracker.note("**SAGAN**")
    tracker.metrics({"loss/D": np.float32(1.5), "loss/G": 2}, images_seen=64)
    assert tracker.finish("FINISHED") is None
    assert tracker.finish("FAILED") is None, "the first word counts"
    tracker.metrics({"loss/D": 1.0}, images_seen=128)
    kinds = [record["kind"] for _, record in read_journal(tmp_path / "run" / "journal.jsonl")]
    assert kinds == ["start", "params", "tags", "tags", "metrics", "end"]
    assert records(tmp_path / "run", "params")[0]["values"] == {
        "batch_size": "64",
        "generator.lr": "0.0001",
        "generator.betas": "[0.0, 0.9]",
    }
    assert records(tmp_path / "run", "metrics")[0]["values"] == {"loss/D": 1.5, "loss/G": 2.0}
    assert records(tmp_path / "run", "end")[0]["status"] == "FINISHED"


def test_nonfinite_values_are_counted_and_not_sent(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.metrics({"loss/D": math.nan, "loss/G": 1.0}, images_seen=64)
    tracker.metrics({"loss/D": math.inf, "loss/G": -math.inf}, images_seen=128)
    tracker.finish("KILLED")
    tracker = open_tracker(tmp_path)
    tracker.metrics({"loss/D": math.nan}, images_seen=192)
    tracker.finish("FINISHED")
    assert points(tmp_path, "loss/G") == [(64, 1.0)]
    assert points(tmp_path, "health/nonfinite") == [(64, 1.0), (128, 3.0), (192, 4.0)]
    assert records(tmp_path, "metrics")[1]["nonfinite"] == {"loss/D": "inf", "loss/G": "-inf"}


def test_steps_repeated_after_a_resume_are_not_written_again(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    uid = tracker.uid
    for images in range(64, 640, 64):
        tracker.metrics({"loss/D": images}, images_seen=images)
    tracker.metrics({"fid": 9.0}, images_seen=320)
    tracker.finish("KILLED")
    tracker = open_tracker(tmp_path)
    assert tracker.uid == uid
    tracker.resumed(images_seen=256)
    for images in range(320, 960, 64):
        tracker.metrics({"loss/D": images, "fid": 1.0}, images_seen=images)
    tracker.finish("FINISHED")
    assert points(tmp_path, "loss/D") == [(images, float(images)) for images in range(64, 960, 64)]
    # What the killed attempt had not got round to at a step it had reached is added.
    assert [images for images, _ in points(tmp_path, "fid")] == list(range(320, 960, 64))
    assert [record["images"] for record in records(tmp_path, "resumed")] == [256]
    assert [record["attempt"] for record in records(tmp_path, "start")] == [1, 2]


def test_changed_parameter_becomes_a_tag(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.params({"lr": 1e-4, "seed": 0})
    tracker.finish("KILLED")
    tracker = open_tracker(tmp_path)
    tracker.params({"lr": 2e-4, "seed": 0, "new": True})
    tracker.finish("FINISHED")
    assert [record["values"] for record in records(tmp_path, "params")] == [
        {"lr": "0.0001", "seed": "0"},
        {"new": "True"},
    ]
    assert [record["values"] for record in records(tmp_path, "tags")] == [{"framework.changed.lr": "0.0002"}]


def test_images_have_readable_names_and_come_once(tmp_path: Path) -> None:
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    tracker = open_tracker(tmp_path)
    given = pixels.copy()
    tracker.image("samples/ema", given, images_seen=12800)
    given[:] = 0
    tracker.image("samples/ema", given, images_seen=12800)
    tracker.image("samples/grey", pixels[:, :, 0], images_seen=0)
    tracker.flush()
    assert [record["images"] for record in records(tmp_path, "image")] == [12800, 0]
    tracker.finish("KILLED")
    tracker = open_tracker(tmp_path)
    tracker.image("samples/ema", given, images_seen=12800)
    tracker.image("samples/ema", pixels, images_seen=25600)
    tracker.finish("FINISHED")
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "ema-000012800.png",
        "ema-000025600.png",
        "grey-000000000.png",
    ]
    with Image.open(tmp_path / "samples" / "ema-000012800.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
    images = records(tmp_path, "image")
    assert [(r["key"], r["images"], r["file"]) for r in images] == [
        ("samples/ema", 12800, "samples/ema-000012800.png"),
        ("samples/grey", 0, "samples/grey-000000000.png"),
        ("samples/ema", 25600, "samples/ema-000025600.png"),
    ]


def test_all_kinds_are_shown_once_under_readable_names(tmp_path: Path) -> None:
    for status, clocks in (("KILLED", (640,)), ("FINISHED", (640, 1280))):
        tracker = open_tracker(tmp_path)
        for images in clocks:
            show_all_kinds(tracker, images_seen=images)
        tracker.finish(status)
    assert [(r["key"], r["images"], r["file"], r["form"]) for r in records(tmp_path, "image")] == [
        (f"samples/{name}", images, f"samples/{name}-{images:09d}.png", form)
        for images in (640, 1280)
        for name, form in (("pairs", "pictures"), ("ring", "plot"))
    ]
    pages = records(tmp_path, "media")
    assert [(r["key"], r["images"], r["file"], r["form"]) for r in pages] == [
        (f"samples/{name}", images, f"samples/{name}-{images:09d}.html", form)
        for images in (640, 1280)
        for name, form in (("speech", "sounds"), ("table", "page"))
    ]
    assert pages[0]["description"] == "Held-out tones: 2 sound clips of 0.58 s at 8,000 Hz: low, high"
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == sorted(
        Path(record["file"]).name for record in records(tmp_path, "image") + pages
    )


def test_a_picture_is_drawn_from_what_was_given_at_the_call(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    pictures = np.full((1, 1, 4, 4), 7, np.uint8)
    tracker.show("samples/ema", PictureGrid(pictures, columns=1, padding=0), images_seen=1)
    pictures[:] = 0
    tracker.finish("FINISHED")
    with Image.open(tmp_path / "samples" / "ema-000000001.png") as image:
        assert np.asarray(image).tolist() == [[7] * 4] * 4


def test_a_journal_from_before_is_continued(tmp_path: Path) -> None:
    """Records of pictures had neither form nor description; their high-water marks hold."""
    before = {"key": "samples/ema", "images": 640, "file": "samples/ema-000000640.png", "token": "t"}
    tracker = open_tracker(tmp_path)
    tracker.journal.write("image", before)
    tracker.finish("KILLED")
    tracker = open_tracker(tmp_path)
    for images in (640, 1280):
        tracker.image("samples/ema", np.zeros((4, 4), np.uint8), images_seen=images)
    tracker.finish("FINISHED")
    found = records(tmp_path, "image")
    assert [record["images"] for record in found] == [640, 1280]
    assert (found[0]["token"], "form" in found[0], found[1]["form"]) == ("t", False, "pictures")


class Odd(Media):
    """Somebody's own class, which fails or takes for ever."""

    suffix, form = ".png", "odd"
    description = "odd"

    def __init__(self, wait: threading.Event | None = None) -> None:
        self._wait = wait

    def encode(self) -> bytes:
        if self._wait:
            self._wait.wait(60)
            return b"drawn"
        raise ZeroDivisionError("odd")


class Film(Odd):
    suffix = ".mp4"


def test_what_cannot_be_drawn_is_counted_and_the_next_is_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = open_tracker(tmp_path)
    tracker.show("samples/odd", Odd(), images_seen=1)
    tracker.image("samples/ema", np.zeros((4, 4), np.uint8), images_seen=1)
    tracker.flush()
    assert tracker.num_lost == 1
    assert "samples/odd at 1 images seen is lost: ZeroDivisionError: odd" in caplog.text
    with pytest.raises(FrameworkError, match=r"Film saves '.mp4' files"):
        tracker.show("samples/film", Film(), images_seen=1)
    tracker.finish("FINISHED")
    assert [record["key"] for record in records(tmp_path, "image")] == ["samples/ema"]


def test_showing_never_waits_for_the_disk(tmp_path: Path) -> None:
    """The writer is stuck: so many are queued, and what comes after them is lost and counted."""
    tracker, event = open_tracker(tmp_path), threading.Event()
    for images in range(MAX_QUEUED + 4):
        tracker.show("samples/odd", Odd(event), images_seen=images)
    lost = tracker.num_lost
    assert lost in (3, 4), "one may be in the writer's hands already"
    event.set()
    tracker.finish("FINISHED")
    assert len(records(tmp_path, "image")) == MAX_QUEUED + 4 - lost


def test_image_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("in the way")
    tracker = open_tracker(tmp_path)
    tracker.image("samples/ema", np.zeros((4, 4), np.uint8), images_seen=1)
    tracker.image("fine/ema", np.zeros((4, 4), np.uint8), images_seen=1)
    tracker.flush()
    assert tracker.num_lost == 1
    tracker.finish("FINISHED")
    assert [record["key"] for record in records(tmp_path, "image")] == ["fine/ema"]


def test_artifacts_live_in_the_run_folder(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path / "run")
    inside, outside = tmp_path / "run" / "recipe.json", tmp_path / "notes.txt"
    inside.write_text("{}")
    outside.write_text("text")
    tracker.artifact(inside)
    tracker.artifact(outside, folder="notes")
    tracker.finish("FINISHED")
    assert [(record["file"], record["folder"]) for record in records(tmp_path / "run", "artifact")] == [
        ("recipe.json", ""),
        ("artifacts/notes/notes.txt", "notes"),
    ]
    assert (tmp_path / "run" / "artifacts" / "notes" / "notes.txt").read_text() == "text"


def test_wrong_use_is_refused_by_name(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    with pytest.raises(FrameworkError, match=r"D\(x\)"):
        tracker.metrics({"D(x)": 1.0}, images_seen=1)
    with pytest.raises(FrameworkError, match="uint8"):
        tracker.image("samples/ema", np.zeros((4, 4), np.float32), images_seen=1)  # type: ignore[arg-type]
    with pytest.raises(FrameworkError, match="is no file"):
        tracker.artifact(tmp_path / "absent")
    with pytest.raises(FrameworkError, match="DONE"):
        tracker.finish("DONE")
    tracker.finish("FINISHED")


def test_password_of_the_store_stays_out_of_the_journal(tmp_path: Path) -> None:
    tracker = Tracker.open(
        tmp_path, uri="http://me:secret@127.0.0.1:1/", experiment="e", run_name="r", start_upload=False
    )
    tracker.finish("FINISHED")
    text = (tmp_path / "journal.jsonl").read_text()
    assert "secret" not in text
    assert "http://me:***@127.0.0.1:1/" in text


def test_journal_reaches_the_disk_while_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("framework.tracking.tracker.HOUSEKEEPING_SECONDS", 0.05)
    monkeypatch.setattr("framework.tracking.journal.Journal.sync", lambda journal: synced.append(journal.path))
    tracker = open_tracker(tmp_path)
    time.sleep(0.5)
    assert len(synced) >= 3
    tracker.finish("FINISHED")


def test_the_null_tracker_takes_the_same_calls(tmp_path: Path) -> None:
    public = {name for name in vars(NullTracker) if not name.startswith("_")}
    told = {"metrics", "params", "tags", "note", "artifact", "show", "image", "dataset", "evaluation", "health"}
    assert public == told | {"resumed", "rolled_back", "flush", "finish"}
    assert public <= set(vars(Tracker))
    tracker = NullTracker()
    tracker.metrics({"D(x)": math.nan}, images_seen=1)
    assert tracker.finish("FINISHED") is None
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == "[]"


def test_after_a_rollback_evaluations_are_journalled_anew_and_curves_are_not(tmp_path: Path) -> None:
    tracker = Tracker.open(tmp_path, uri=None, experiment="e", run_name="r")
    record = {"fid": {"value": 9.0, "protocol": {"hash": "0123abcd"}}}
    for course in (1, 2):
        tracker.metrics({"loss/G": course}, images_seen=100)
        tracker.evaluation({"fid": record["fid"] | {"value": 9.0 + course}}, images_seen=100)
        if course == 1:
            tracker.rolled_back(images_seen=50, from_images=120)
    tracker.finish("FINISHED")
    found = [one for _, one in read_journal(tmp_path / JOURNAL_NAME)]
    points = [point for one in found if one["kind"] == "metrics" for point in one["values"].items()]
    assert points == [("loss/G", 1.0), ("metrics/fid-0123abcd", 10.0), ("metrics/fid-0123abcd", 11.0)]
    assert [one["records"]["fid"]["value"] for one in found if one["kind"] == "evaluation"] == [10.0, 11.0]
    assert scan_journal(tmp_path / JOURNAL_NAME).tags["framework.lineage"] == "new > back from 120 to 50"
