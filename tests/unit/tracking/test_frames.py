"""The file of a game's frames, and the recording made of a run folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from framework.tracking import Tracker
from framework.tracking.frames import FRAMES_NAME, FramesFile, read_frames, read_recording
from framework.utils.errors import FrameworkError
from tests.helpers.games import CLOCKS, frame, scene


def written(folder: Path, clocks: tuple[int, ...] = CLOCKS, *, ended: bool = False) -> FramesFile:
    folder.mkdir(exist_ok=True)
    file = FramesFile(folder, scene())
    file.begin(images_seen=-1, total_images=128)
    for images in clocks:
        file.append(frame(images, is_end=ended and images == clocks[-1]))
    return file


def clocks_in(folder: Path) -> list[int]:
    return [one.images_seen for one in read_frames(folder / FRAMES_NAME)[1]]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert written(tmp_path).num_frames == 5
    found, frames = read_frames(tmp_path / FRAMES_NAME)
    assert (found, frames) == (scene(), [frame(images) for images in CLOCKS])


def test_a_resumed_run_writes_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    written(tmp_path / "straight")
    written(tmp_path / "killed", CLOCKS[:4])
    resumed = FramesFile(tmp_path / "killed", scene())
    assert resumed.begin(images_seen=20, total_images=128) == 16, "the frames after the checkpoint are made again"
    for images in CLOCKS[2:]:
        resumed.append(frame(images))
    assert (tmp_path / "killed" / FRAMES_NAME).read_bytes() == (tmp_path / "straight" / FRAMES_NAME).read_bytes()
    assert resumed.num_frames == 5


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, CLOCKS[:3])
    path = tmp_path / FRAMES_NAME
    path.write_bytes(path.read_bytes()[:-1])
    assert clocks_in(tmp_path) == [0, 16]
    file = FramesFile(tmp_path, scene())
    assert file.begin(images_seen=1000, total_images=2000) == 16
    file.append(frame(32))
    assert clocks_in(tmp_path) == [0, 16, 32]


@pytest.mark.parametrize(("total", "kept"), [(128, [0, 16, 32, 64, 128]), (256, [0, 16, 32, 64])])
def test_the_end_of_a_shorter_run_goes_when_it_is_made_longer(tmp_path: Path, total: int, kept: list[int]) -> None:
    written(tmp_path, ended=True)
    FramesFile(tmp_path, scene()).begin(images_seen=128, total_images=total)
    assert clocks_in(tmp_path) == kept


def test_frames_of_another_scene_and_damaged_ones_are_not_kept(tmp_path: Path) -> None:
    for damage in (lambda text: text, lambda text: text.replace(b'"fakes":4', b'"fakes":-4')):
        written(tmp_path)
        path = tmp_path / FRAMES_NAME
        path.write_bytes(damage(path.read_bytes()))
        file = FramesFile(tmp_path, replace(scene(), loss="Hinge"))
        assert file.begin(images_seen=128, total_images=128) == -1
        assert clocks_in(tmp_path) == []


def test_a_disk_that_fails_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path, CLOCKS[:2])
    (tmp_path / FRAMES_NAME).unlink()
    (tmp_path / FRAMES_NAME).mkdir()
    for images in CLOCKS[2:]:
        file.append(frame(images))
    assert file.num_frames == 2
    assert len(caplog.records) == 1
    assert "the game is not recorded any more, training goes on" in caplog.text


LINE = dataclasses.asdict(frame(0))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "is not valid JSON|no line"),
        ([{"format": 2, "scene": {}}], "this version reads 1"),
        ([{"format": 1}], "no scene"),
        ([{"format": 1, "scene": {**dataclasses.asdict(scene()), "half": "1"}}], "'half' of a scene"),
        ([{"format": 1, "scene": {**dataclasses.asdict(scene()), "modes": [[1]]}}], "'modes' of a scene"),
        ([None, [1]], "no JSON object"),
        ([None, {**LINE, "images_seen": True}], "'images_seen' of a frame"),
        ([None, {**LINE, "hits": ["<b>", 1]}], "'hits' of a frame"),
        ([None, {**LINE, "more": 1}], "'more' of a frame"),
        ([None, {key: LINE[key] for key in LINE if key != "grid"}], "'grid' of a frame"),
        ([None, {**LINE, "fakes": "</script>"}], "fakes must be 16 bytes"),
        ([None, LINE, LINE], "order of the clock"),
    ],
)
def test_a_file_that_anybody_may_have_written_is_refused(tmp_path: Path, lines: list[object], why: str) -> None:
    head = {"format": 1, "scene": dataclasses.asdict(scene())}
    text = "".join(json.dumps(head if line is None else line) + "\n" for line in lines)
    (tmp_path / FRAMES_NAME).write_text(text)
    with pytest.raises(FrameworkError, match=why):
        read_frames(tmp_path / FRAMES_NAME)


def test_a_recording_has_losses_and_what_sentinels_said(tmp_path: Path) -> None:
    written(tmp_path / "run")
    tracker = Tracker.open(tmp_path / "run", uri=None, experiment="e", run_name="one\ttwo")
    for images in (32, 64, 128):
        tracker.metrics({"loss/D": images / 64, "loss/G": 1.0, "lr/D": 0.1}, images_seen=images)
    tracker.health("sign_saturation", "ok", images_seen=32)
    tracker.health("sign_saturation", "warn", images_seen=64, reason="why\n<b>", remedy="what")
    tracker.rolled_back(images_seen=32, from_images=70)
    tracker.finish("FINISHED")
    (tmp_path / "run" / "recipe.json").write_text('{"name": "ring"}')
    found = read_recording(tmp_path / "run")
    assert found is not None
    assert (found.name, found.recipe, len(found.frames)) == ("one two", "ring", 5)
    assert found.series == {"loss/D": [(32, 0.5), (64, 1.0), (128, 2.0)], "loss/G": [(32, 1.0), (64, 1.0), (128, 1.0)]}
    told = [(mark.images_seen, mark.state, mark.sentinel, mark.reason, mark.remedy) for mark in found.marks]
    assert told == [
        (64, "warn", "sign_saturation", "why <b>", "what"),
        (70, "rollback", "rollback", "training went back from 70 images to 32", ""),
    ]
    assert read_recording(tmp_path) is None, "a folder without frames"


def test_a_killed_run_says_of_its_sentinels_what_an_undisturbed_one_says(tmp_path: Path) -> None:
    """The journal of a killed run says again, from the checkpoint on, how each sentinel was."""
    states = {32: "ok", 48: "ok", 64: "warn", 128: "ok", 256: "failing"}
    killed = [(32, 48, 64), (48, 64, 128), (128, 256)]
    for name, launches in {"straight": [(32, 48, 64, 128, 256)], "killed": killed}.items():
        written(tmp_path / name)
        for clocks in launches:
            tracker = Tracker.open(tmp_path / name, uri=None, experiment="e", run_name="run")
            for images in clocks:
                tracker.health("signal", states[images], images_seen=images, reason=f"at {images}")
            tracker.finish("KILLED")
    marks = [read_recording(tmp_path / name).marks for name in ("straight", "killed")]  # type: ignore[union-attr]
    assert [(mark.images_seen, mark.state) for mark in marks[0]] == [(64, "warn"), (128, "ok"), (256, "failing")]
    assert marks[0] == marks[1]
