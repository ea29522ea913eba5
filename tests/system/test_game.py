"""Real launches of games of points: the recording of a killed run, what it costs, and where it is seen."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.__main__ import run as call
from framework.checkpoint import list_checkpoints
from framework.games.frames import frame_clocks
from framework.media.game_page import game_page
from framework.media.recording import gradients_from_text, logits_from_text, points_from_text
from framework.review import read_run, write_report
from framework.tracking.frames import FRAMES_NAME, read_frames, read_recording
from tests.helpers.browser import EXECUTABLE, WHY_NOT, Browser
from tests.helpers.journals import records, science
from tests.helpers.launch import ROOT, TINY, Launch, run, unequal

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(400)]
RING = ROOT / "recipes/gan_ring.py"
IMAGES, SAVE_EVERY = 25_600, 5_120
FLAGS = ("--tracking", "none", "--workers", "0", "--log-every-images", "1024", "--sample-every-images", "10240",
         "--save-every-images", str(SAVE_EVERY))  # fmt: skip
MADE = (FRAMES_NAME, "game.html")


def launched(out: Path, *flags: str, images: int = IMAGES, world: int = 1) -> str:
    log = out.parent / f"{out.name}-{images}.log"
    out.parent.mkdir(parents=True, exist_ok=True)
    return run(RING, *FLAGS, *flags, "--images", str(images), "--out", str(out), world=world, log=log)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run, and what it printed beside it."""
    out = tmp_path_factory.mktemp("game") / "straight" / "run"
    printed = launched(out)
    (out.parent / "printed").write_text(printed)
    return out


def test_a_killed_run_leaves_the_page_of_an_undisturbed_one(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = (*FLAGS, "--images", str(IMAGES), "--out", str(out))
    with Launch(RING, *flags, world=1, log=tmp_path / "killed.log") as killed:
        killed.until(lambda: SAVE_EVERY in list_checkpoints(out / "checkpoints"))
        killed.kill()
    checkpoint = max(list_checkpoints(out / "checkpoints"))
    frames = [one.images_seen for one in read_frames(out / FRAMES_NAME)[1]]
    assert checkpoint < IMAGES, "killed too late to show anything"
    assert {one for one in frame_clocks(images=IMAGES, step_images=256) if one <= checkpoint} <= {*frames}
    assert not (out / "game.html").exists()
    launched(out)
    print(f"killed with {len(frames)} frames, resumed at {checkpoint}")
    assert unequal(out / "checkpoints" / str(IMAGES), straight / "checkpoints" / str(IMAGES)) == []
    for name in MADE:
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name


def test_a_run_that_is_made_longer_leaves_the_page_of_one_that_was_longer(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    launched(out, images=21_504)  # 84 steps: a point of the log, and no clock of the longer run
    short = [one.images_seen for one in read_frames(out / FRAMES_NAME)[1]]
    assert 21_504 in short
    assert 21_504 not in [one.images_seen for one in read_frames(straight / FRAMES_NAME)[1]]
    launched(out)
    assert science(out) == science(straight)
    for name in MADE:
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name


def test_the_recording_changes_no_bit_and_tells_its_cost(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = launched(out, "--sample-every-images", "0")
    assert "game:" not in printed
    assert [name for name in MADE if (out / name).exists()] == []
    for images in list_checkpoints(out / "checkpoints"):
        assert unequal(out / "checkpoints" / str(images), straight / "checkpoints" / str(images)) == []
    assert science(out) == science(straight)
    told = re.search(
        r"game: (\d+) frames, ([\d.]+) KiB, ([\d.]+)% of this launch's processor time",
        (straight.parent / "printed").read_text(),
    )
    assert told is not None
    assert int(told[1]) == len(read_frames(straight / FRAMES_NAME)[1]) == 63
    assert float(told[2]) == pytest.approx((straight / "game.html").stat().st_size / 1024, abs=0.1)
    assert 0 < float(told[3]) < 100


@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_two_processes_record_the_game_of_one(straight: Path, tmp_path: Path, engine: str) -> None:
    images = 2048
    for name, flags in {
        "with": (),
        "without": (
            "--sample-every-images",
            "0",
        ),
    }.items():
        launched(tmp_path / name, "--engine", engine, *flags, images=images, world=2)
    assert unequal(*(tmp_path / name / "checkpoints" / str(images) for name in ("with", "without"))) == []
    scene, found = read_frames(tmp_path / "with" / FRAMES_NAME)
    other, expected = read_frames(straight / FRAMES_NAME)
    assert scene == other
    expected = expected[: len(found)]
    assert (
        [one.images_seen for one in found] == [one.images_seen for one in expected] == list(range(0, images + 1, 256))
    )
    # Two processes round otherwise than one: what is kept may differ by a step of its code.
    step = 4 * scene.half / 32767
    for one, two in zip(found, expected, strict=True):
        difference = points_from_text(one.fakes, scene) - points_from_text(two.fakes, scene)
        assert np.abs(difference).max() <= 1.5 * step
        logits = logits_from_text(one, scene) - logits_from_text(two, scene)
        assert np.abs(logits).max() <= 1.5 * (one.high - one.low) / 254
        lengths = [np.hypot(*gradients_from_text(each.arrows).T) for each in (one, two)]
        assert max((lengths[0] / lengths[1]).max(), (lengths[1] / lengths[0]).max()) <= 2**0.25 * (1 + 1e-9)


def test_the_page_is_an_artifact_of_the_run(straight: Path) -> None:
    artifacts = [record["file"] for record in records(straight, "artifact")]
    assert artifacts.count("game.html") == 1
    recording = read_recording(straight)
    assert recording is not None
    assert (straight / "game.html").read_bytes() == game_page([recording]).encode()
    assert (recording.name, recording.recipe, len(recording.scene.modes)) == ("run", "gan_ring", 8)
    assert [images for images, _ in recording.series["loss/D"]] == list(range(1024, IMAGES + 1, 1024))
    # The hits of the recipe's own metric, counted anew: within three standard deviations of the nearest mode.
    last = recording.frames[-1]
    points, modes = points_from_text(last.fakes, recording.scene), np.array(recording.scene.modes)
    far = np.hypot(*(points[:, None] - modes).transpose(2, 0, 1))
    counted = np.bincount(far.argmin(1)[far.min(1) <= 0.06], minlength=8)
    assert np.abs(counted - last.hits).sum() <= 2, "a point on the edge may round to the other side"


def test_games_of_pictures_are_not_recorded(tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = run(TINY, "--images", "64", "--tracking", "none", "--out", str(out), world=1, log=tmp_path / "log")
    assert "game:" not in printed
    assert [name for name in MADE if (out / name).exists()] == []
    assert read_run(out).game is None


def framework(*arguments: object) -> tuple[int, str]:
    """Call the program as a command line does; its status and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = call(str(arguments[0]), [str(one) for one in arguments[1:]])
    return status, printed.getvalue()


def test_review_writes_the_games_and_the_still(straight: Path, tmp_path: Path) -> None:
    status, printed = framework("review", straight, straight.parent, "--game", tmp_path / "page.html")
    assert (status, printed) == (0, f"{tmp_path / 'page.html'} (0.5 MB)\n")
    assert (tmp_path / "page.html").read_bytes() == (straight / "game.html").read_bytes()
    assert framework("review", straight, "--game", tmp_path / "still.png")[0] == 0
    with Image.open(tmp_path / "still.png") as still:
        assert still.size[0] > still.size[1] > 400
    for name, why in (("game.txt", "let it end in .html"), ("none.html", "has no frames.jsonl")):
        folder = straight if name == "game.txt" else tmp_path
        (tmp_path / "journal.jsonl").write_bytes((straight / "journal.jsonl").read_bytes())
        status, printed = framework("review", folder, "--game", tmp_path / name)
        assert status == 2
        assert why in printed
        assert printed.count("\n") == 1


@pytest.mark.skipif(EXECUTABLE is None, reason=WHY_NOT)
@pytest.mark.parametrize("width", [1280, 360])
def test_the_report_plays_the_game(straight: Path, tmp_path: Path, width: int) -> None:
    out = write_report(tmp_path / "report.html", [read_run(straight), read_run(straight)])
    with Browser(tmp_path / "profile", width=width, height=900) as page:
        page.open(out.as_uri())
        page.until("document.querySelector('.game').dataset.ready && document.documentElement.dataset.ready")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelectorAll('#game canvas').length") == 2
        assert page.evaluate("document.querySelector('nav').textContent").startswith("SamplesGame")
        clock = "document.querySelector('.g-images').textContent"
        assert page.evaluate(clock) == f"{IMAGES:,} images seen"
        # A key outside leaves the game alone, one inside moves it, and not the samples.
        samples = page.evaluate("document.getElementById('clock').value")
        page.press("Home")
        assert page.evaluate(clock) == f"{IMAGES:,} images seen"
        page.click(".g-later")
        page.press("Home")
        assert page.evaluate(clock) == "0 images seen"
        assert page.evaluate("document.getElementById('clock').value") == samples
        assert page.errors == []
        assert all(url.startswith("file://") for url in page.requests)


def test_a_damaged_recording_is_a_note_of_the_report(straight: Path, tmp_path: Path) -> None:
    for name in ("journal.jsonl", "recipe.json"):
        (tmp_path / name).write_bytes((straight / name).read_bytes())
    (tmp_path / FRAMES_NAME).write_bytes((straight / FRAMES_NAME).read_bytes().replace(b'"half":', b'"half":-', 1))
    found = read_run(tmp_path)
    assert found.game is None
    assert any(note.startswith("The recorded game cannot be shown: ") for note in found.notes)
    assert 'id="game"' not in write_report(tmp_path / "report.html", [found]).read_text()
