"""Reading run folders: whole, unfinished, damaged, hostile."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from framework.review import read_run
from framework.tracking import Tracker
from framework.utils.errors import FrameworkError
from tests.helpers.run_folders import FID, OTHER_FID, fid, write_checkpoints, write_run, write_scores


def journal(folder: Path) -> Path:
    return folder / "journal.jsonl"


def test_a_finished_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    run = read_run(tmp_path / "a")
    assert (run.name, run.state, run.last_images, run.total_images, run.notes) == ("a", "finished", 640, 640, [])
    assert run.series["loss/D"].points == {images: images / 100 for images in range(40, 641, 40)}
    assert sorted(run.grids["samples/ema"]) == [0, 320, 640]
    assert run.reals is not None
    assert run.reals.name == "real-000000000.png"
    assert [(one.images_seen, one.world) for one in run.checkpoints] == [(320, 1), (640, 1)]
    assert run.active_seconds > 0


@pytest.mark.parametrize(("status", "state"), [("KILLED", "stopped"), ("FAILED", "failed"), (None, "running")])
def test_states(tmp_path: Path, status: str | None, state: str) -> None:
    tracker = write_run(tmp_path / "a", status=status, grids=(), checkpoints=())
    assert read_run(tmp_path / "a").state == state
    tracker.finish("FINISHED")


def test_a_trainer_that_went_without_a_word_has_failed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", checkpoints=())
    lines = journal(tmp_path / "a").read_text().splitlines(keepends=True)
    journal(tmp_path / "a").write_text("".join(lines[:-1]))  # without its `end`
    assert read_run(tmp_path / "a").state == "failed"


def test_resumes_are_launches_of_one_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="KILLED", steps=range(40, 401, 40))
    tracker = Tracker.open(tmp_path / "a", uri=None, experiment="tiny", run_name="a")
    tracker.resumed(images_seen=320)
    tracker.metrics({"loss/D": 1.0}, images_seen=640)
    tracker.finish("FINISHED")
    run = read_run(tmp_path / "a")
    assert [(one.number, one.from_images, one.state) for one in run.launches] == [
        (1, 0, "stopped"),
        (2, 320, "finished"),
    ]
    assert run.tags["framework.lineage"] == "new > resumed at 320"


def test_every_cut_of_a_journal_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    write_run(tmp_path / "a", checkpoints=())
    content = journal(tmp_path / "a").read_bytes()
    whole = content.count(b"\n")
    for length in range(1, len(content), 97):
        journal(tmp_path / "a").write_bytes(content[:length])
        run = read_run(tmp_path / "a")
        torn = content[:length].rpartition(b"\n")[2]
        assert any("cut" in note for note in run.notes) == bool(torn), length
        assert len(run.series["loss/D"].points) <= whole
    # The last cut is inside the last record: everything before it is there.
    assert len(run.series["loss/D"].points) == 16


def test_damaged_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path / "a", checkpoints=())
    lines = journal(tmp_path / "a").read_bytes().splitlines(keepends=True)
    bad = [
        b"\x00\xff garbage\n",
        b'{"kind":"metrics","time_ms":1}\n',
        b'{"kind":"metrics","time_ms":1,"images":1,"values":{"x":"y"}}\n',
        b'{"kind":"image","time_ms":1,"key":3}\n',
        b'{"kind":"health","time_ms":1,"images":1,"sentinel":"s","state":"purple"}\n',
        b"[1,2]\n",
    ]
    journal(tmp_path / "a").write_bytes(b"".join([lines[0], *bad, *lines[1:]]))
    run = read_run(tmp_path / "a")
    assert f"{len(bad)} damaged line(s) of the journal were passed over." in run.notes
    assert len(run.series["loss/D"].points) == 16
    journal(tmp_path / "a").write_bytes(b"".join(lines[1:]))  # the very first record is gone
    run = read_run(tmp_path / "a")
    assert len(run.series["loss/D"].points) == 16
    assert any("no start record" in note for note in run.notes)


def test_not_a_number_is_kept_apart(tmp_path: Path) -> None:
    tracker = write_run(tmp_path / "a", status=None, checkpoints=())
    tracker.metrics({"loss/D": float("nan")}, images_seen=700)
    tracker.finish("FAILED")
    with journal(tmp_path / "a").open("a") as file:  # not ours, but JSON as Python reads it
        file.write('{"kind":"metrics","time_ms":1,"images":710,"values":{"loss/D":NaN}}\n')
    series = read_run(tmp_path / "a").series["loss/D"]
    assert series.nonfinite == [700, 710]
    assert max(series.points) == 640


def test_an_image_outside_the_run_folder_is_not_read(tmp_path: Path) -> None:
    write_run(tmp_path / "a", checkpoints=())
    (tmp_path / "secret.png").write_bytes(b"x")
    for file in ("../secret.png", str(tmp_path / "secret.png")):
        record = {"kind": "image", "time_ms": 1, "key": "samples/ema", "images": 900, "file": file, "token": "t"}
        with journal(tmp_path / "a").open("a") as out:
            out.write(json.dumps(record) + "\n")
    run = read_run(tmp_path / "a")
    assert 900 not in run.grids["samples/ema"]
    assert len([note for note in run.notes if "outside" in note]) == 2


def test_scores_from_all_three_places(tmp_path: Path) -> None:
    tracker = write_run(tmp_path / "a", status=None)
    tracker.metrics({"metrics/fid50k-1a2b3c4d": 30.0}, images_seen=700)
    tracker.evaluation({"fid50k": fid(20.0), "kid": {"value": None, "missing": "no weights"}}, images_seen=320)
    tracker.evaluation({"fid50k": fid(19.0)}, images_seen=320)  # said before
    tracker.finish("FINISHED")
    write_scores(tmp_path / "a", 320, {"fid50k": fid(20.0), "precision": 0.5})
    write_scores(tmp_path / "a", 640, {"fid50k": fid(11.0, OTHER_FID)})
    run = read_run(tmp_path / "a")
    found = {(images, score.chart, score.value) for images, scores in run.scores.items() for score in scores}
    assert found == {
        (320, "metrics/fid50k-1a2b3c4d", 20.0),
        (320, "metrics/precision", 0.5),
        (640, "metrics/fid50k-5e6f7a8b", 11.0),
        (700, "metrics/fid50k-1a2b3c4d", 30.0),
    }
    told = [score for score in run.scores[320] if score.name == "fid50k"]
    assert told[0].protocol == FID, "the record that tells most stays"
    assert run.missing == {(320, "kid"): "no weights"}


def test_evaluated_after_the_end(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    before = read_run(tmp_path / "a").active_seconds
    records = {"fid50k-1a2b3c4d": fid(20.0)}
    (tmp_path / "a/checkpoints/320/evaluation.json").write_text(json.dumps({"format": 1, "records": records}))
    write_scores(tmp_path / "a", 320, {"fid50k-1a2b3c4d": 20.0, "kid-5e6f7a8b": 0.1})
    later = {"kind": "metrics", "time_ms": 4 * 10**12, "images": 320, "values": {"metrics/fid50k-1a2b3c4d": 20.0}}
    with journal(tmp_path / "a").open("a") as file:
        file.write(json.dumps(later) + "\n")
    run = read_run(tmp_path / "a")
    assert {(score.name, score.chart): score.protocol for score in run.scores[320]} == {
        ("fid50k", "metrics/fid50k-1a2b3c4d"): FID,
        ("kid", "metrics/kid-5e6f7a8b"): {"hash": "5e6f7a8b"},
    }
    assert run.active_seconds == before
    assert run.state == "finished"


def test_deleted_and_damaged_checkpoints(tmp_path: Path) -> None:
    tracker = write_run(tmp_path / "a", status=None, checkpoints=())
    for images in (160, 320, 640):
        tracker.tags({"framework.checkpoint_images": images})
    tracker.finish("FINISHED")
    write_checkpoints(tmp_path / "a", (160, 320, 640), keep=2)
    run = read_run(tmp_path / "a")
    assert [one.images_seen for one in run.checkpoints] == [320, 640]
    assert run.deleted == [160]
    manifest = tmp_path / "a/checkpoints/640/manifest.json"
    manifest.write_text(manifest.read_text().replace('"images": 640', '"images": 641'))
    (tmp_path / "a/checkpoints/320/scores.json").write_text("{")
    run = read_run(tmp_path / "a")
    assert any("640" in note and "sha256" in note for note in run.notes)
    assert any("scores.json is damaged" in note for note in run.notes)


def test_health_is_journalled_when_it_changes(tmp_path: Path) -> None:
    tracker = write_run(tmp_path / "a", status=None, checkpoints=())
    for images, state in ((40, "ok"), (80, "ok"), (120, "warn"), (160, "failing"), (200, "failing"), (240, "ok")):
        tracker.health("sign_saturation", state, images_seen=images, reason="0.9 > 0.8", remedy="ADA")
    with pytest.raises(FrameworkError, match="no state of health"):
        tracker.health("sign_saturation", "purple", images_seen=300)
    tracker.finish("FINISHED")
    run = read_run(tmp_path / "a")
    assert [(event.images, event.state) for event in run.health] == [
        (40, "ok"),
        (120, "warn"),
        (160, "failing"),
        (240, "ok"),
    ]


def test_a_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="holds no journal"):
        read_run(tmp_path)


def test_without_a_recipe_or_lock_the_rest_is_read(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    os.unlink(tmp_path / "a/recipe.json")
    os.unlink(tmp_path / "a/journal.lock")
    run = read_run(tmp_path / "a")
    assert run.state == "finished"
    assert any("recipe.json cannot be read" in note for note in run.notes)
