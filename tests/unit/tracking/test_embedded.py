"""The whole way into a SQLite file: upload process, images under MLflow's names, resume, review."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framework.commands.review import find_runs, links
from framework.commands.sync import sync
from framework.tracking import Tracker
from framework.tracking.previews import make_preview, mlflow_names
from framework.tracking.process import mlflow_environment
from framework.tracking.records import read_journal
from framework.tracking.server import free_port
from framework.utils.errors import FrameworkError
from tests.helpers.mlflow_store import Database
from tests.helpers.run_folders import show_all_kinds

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "mlflow.db")


def open_tracker(folder: Path, *, uri: str) -> Tracker:
    return Tracker.open(folder, uri=uri, experiment="unit", run_name=folder.name)


def metrics(tracker: Tracker, steps: range) -> None:
    for step in steps:
        tracker.metrics({"loss/G": step / 4, "loss/D": -step}, images_seen=step * 64)


def expected(steps: range) -> list[tuple[int, float]]:
    return [(step * 64, step / 4) for step in steps]


def test_run_with_images_files_and_resume(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "run"
    tracker = open_tracker(folder, uri=database.uri)
    tracker.params({f"p{number}": number for number in range(150)})
    tracker.note("**title**")
    metrics(tracker, range(1, 700))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    tracker.image("samples/ema", pixels, images_seen=640)
    (folder / "recipe.json").write_text("{}")
    tracker.artifact(folder / "recipe.json", folder="recipe")
    show_all_kinds(tracker, images_seen=640)
    assert tracker.finish("KILLED", wait_seconds=90) is None
    assert database.status(tracker.uid) == "KILLED"

    tracker = open_tracker(folder, uri=database.uri)
    tracker.resumed(images_seen=320)
    metrics(tracker, range(6, 800))
    tracker.image("samples/ema", pixels, images_seen=640)
    show_all_kinds(tracker, images_seen=640)
    assert tracker.finish("FINISHED", wait_seconds=90) is None

    uid = tracker.uid
    assert database.points(uid, "loss/G") == expected(range(1, 800))
    assert len(database.points(uid, "loss/D")) == 799
    assert len(database.params(uid)) == 150
    assert database.status(uid) == "FINISHED"
    tags = database.tags(uid)
    assert tags["framework.exit"] == "clean"
    assert tags["framework.resumed_at"] == "320"
    assert tags["mlflow.loggedImages"] == "True"
    assert tags["mlflow.note.content"] == "**title**"
    assert tags["mlflow.runName"] == "run"
    pictures = [record for _, record in read_journal(folder / "journal.jsonl") if record["kind"] == "image"]
    artifacts = database.artifacts(uid)
    assert (artifacts / "recipe" / "recipe.json").read_text() == "{}"
    # Grid, pairs and plot are there once, each with its preview, though two launches showed them.
    assert [record["key"] for record in pictures] == ["samples/ema", "samples/pairs", "samples/ring"]
    names = sorted(name for record in pictures for name in mlflow_names(record))
    assert sorted(path.name for path in (artifacts / "images").iterdir()) == names
    full, preview = (artifacts / "images" / name for name in mlflow_names(pictures[0]))
    with Image.open(full) as image:
        assert np.array_equal(np.asarray(image), pixels)
    with Image.open(preview) as image:
        assert image.size == (720, 480)
    with Image.open(artifacts / "images" / mlflow_names(pictures[2])[1]) as image:
        assert image.size == (768, 576), "a plot needs no other size to be seen"
    # Sounds and pages are artifacts at their step.
    pages = ["speech-000000640.html", "table-000000640.html"]
    assert sorted(path.name for path in (artifacts / "samples").iterdir()) == pages
    for name in pages:
        assert (artifacts / "samples" / name).read_bytes() == (folder / "samples" / name).read_bytes()

    # Any position may be lost: the journal and the store together are enough.
    for path in (folder / "tracking").glob("upload-*.json"):
        path.unlink()
    sync(folder)
    assert database.points(uid, "loss/G") == expected(range(1, 800))
    assert links(folder, uri=database.uri, url="http://x")["charts"].startswith(
        f"http://x/#/experiments/1/runs/{database.run_id(uid)}/model-metrics?workflowType=machine_learning"
    )


LOG_IMAGE = """
import numpy as np
from mlflow import MlflowClient
import sys
client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.create_experiment("e", artifact_location=sys.argv[2])
run = client.create_run(experiment)
image = np.zeros((20, 30, 3), np.uint8)
client.log_image(run.info.run_id, image, key="samples/ema", step=12800, timestamp=1700000000000, synchronous=True)
print(run.info.run_id)
"""


def test_image_names_are_those_mlflow_itself_writes(tmp_path: Path, database: Database) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOG_IMAGE, database.uri, (tmp_path / "files").as_uri()],
        env=mlflow_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = sorted(path.name for path in (tmp_path / "files").glob("*/artifacts/images/*"))
    assert len(theirs) == 2, done.stdout
    token = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", theirs[0])
    assert token is not None
    record = {"key": "samples/ema", "images": 12800, "time_ms": 1700000000000, "token": token[0]}
    assert sorted(mlflow_names(record)) == theirs
    run_id = done.stdout.strip()
    tags = dict(database.query("SELECT key, value FROM tags WHERE run_uuid = ?", run_id))
    assert tags["mlflow.loggedImages"] == "True"


def test_previews_keep_small_pixels_sharp_and_large_images_small() -> None:
    small = np.random.default_rng(0).integers(0, 256, (100, 342, 3), dtype=np.uint8)
    preview = np.asarray(make_preview(Image.fromarray(small)))
    assert preview.shape == (200, 684, 3)
    assert np.array_equal(preview[::2, ::2], small)
    assert make_preview(Image.new("RGB", (3000, 1500))).size == (768, 384)


@NEEDS_PROC
def test_upload_process_is_polite_and_restarted(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framework.tracking.process.RESTART_SECONDS", 0.0)
    tracker = open_tracker(tmp_path / "run", uri=database.uri)
    upload = tracker.upload
    assert upload is not None
    metrics(tracker, range(1, 50))
    # The worst moment: MLflow is making its tables.
    wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.new")))
    pid = upload.pid
    assert pid is not None
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    assert int(stat[16]) == min(19, os.nice(0) + 10), "niceness: 10 more than ours"
    assert int(stat[3]) == pid, "a session of its own"
    assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
    os.kill(pid, signal.SIGKILL)
    upload.wait()
    upload.ensure_running()
    assert upload.pid != pid
    assert tracker.finish("FINISHED", wait_seconds=90) is None
    assert database.points(tracker.uid, "loss/G") == expected(range(1, 50))
    assert not list(tmp_path.glob(".mlflow.db*"))


def wait_until(condition: object, *, timeout_seconds: float = 60.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_review_finds_runs_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="give a run or a folder of runs"):
        find_runs(tmp_path)
    for name, uri in (("a", "sqlite:////x/mlflow.db"), ("b", "http://host:5000"), ("c", None)):
        tracker = Tracker.open(tmp_path / name, uri=uri, experiment="e", run_name=name, start_upload=False)
        tracker.finish("FINISHED")
    assert [(run.folder.name, run.uri) for run in find_runs(tmp_path)] == [
        ("a", "sqlite:////x/mlflow.db"),
        ("b", "http://host:5000"),
    ]
    with pytest.raises(FrameworkError, match=r"without MLflow: upload it first with framework sync"):
        find_runs(tmp_path / "c")


REVIEW = """
import sys
from pathlib import Path
from framework.commands.review import review
review((Path(sys.argv[1]),), port=int(sys.argv[2]), browser=False)
"""


@pytest.mark.slow
def test_review_serves_a_killed_run_on_the_next_free_port(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "runs" / "one"
    tracker = Tracker.open(folder, uri=database.uri, experiment="unit", run_name="one", start_upload=False)
    metrics(tracker, range(1, 20))
    tracker.journal.close()  # as a killed trainer leaves it
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", REVIEW, str(folder.parent), str(port)]
        chosen = os.environ | {"MLFLOW_TRACKING_URI": database.uri}  # it is not beside the run
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=chosen) as process:
            assert process.stdout is not None
            lines = []
            while not lines or "Ctrl-C" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            text = "".join(lines)
            assert f"port {port} is taken" in text
            match = re.search(
                r"one: (http://127\.0\.0\.1:(\d+))/#/experiments/1/runs/([0-9a-f]{32})/model-metrics", text
            )
            assert match is not None, text
            assert match[3] == database.run_id(tracker.uid)
            assert "compareRunsMode=CHART" in text
            with urllib.request.urlopen(f"{match[1]}/health", timeout=10) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert free_port(int(match[2])) == int(match[2]), "the server is gone"
    assert database.status(tracker.uid) == "FAILED"
    assert database.points(tracker.uid, "loss/G") == expected(range(1, 20))
