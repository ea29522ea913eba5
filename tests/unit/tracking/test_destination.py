"""Run folders from elsewhere: which of this machine's files are uploaded, and to whom."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from framework.commands import review
from framework.commands import sync as command
from framework.commands.sync import sync
from framework.media.base import MOST_BYTES
from framework.media.grids import save_png
from framework.tracking.checkpoints import KeptCheckpoint
from framework.tracking.cursor import Cursor
from framework.tracking.destination import OutsideError, destination, inside
from framework.tracking.registry import _store_files
from framework.tracking.tracker import Tracker
from framework.tracking.uri import embedded_uri
from framework.utils.errors import FrameworkError
from tests.helpers.mlflow_store import Database

FOREIGN = "http://collector.invalid:5000"


def write_run(folder: Path, *records: dict[str, object], uri: str) -> Path:
    """A finished run whose journal somebody has written records into."""
    tracker = Tracker.open(folder, uri=uri, experiment="unit", run_name="run", start_upload=False)
    tracker.finish("FINISHED")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.writelines(json.dumps({"time_ms": 1, **record}, separators=(",", ":")) + "\n" for record in records)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a file of its own, links that lead out, and one that stays inside."""
    folder = tmp_path / "runs" / "foreign"
    folder.mkdir(parents=True)
    (folder / "own.txt").write_text("own")
    (tmp_path / "runs" / "secret").write_text("secret")
    (tmp_path / "runs" / "foreign2").mkdir()
    (tmp_path / "runs" / "foreign2" / "neighbour").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "runs" / "secret")
    (folder / "away").symlink_to(tmp_path / "runs")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "near").symlink_to("own.txt")
    os.mkfifo(folder / "pipe")
    return folder


OUTSIDE = [
    *("../secret", "/etc/hostname", "link", "away/secret", "sub/../../secret", "../foreign2/neighbour", "loop", "pipe"),
    *("", ".", "own.txt\0", "x" * 5000, None, 3, ["own.txt"]),
]


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: str(name)[:20].replace("\0", "NUL"))
def test_only_files_inside_the_run_folder(run: Path, name: object) -> None:
    with pytest.raises((OutsideError, FileNotFoundError)):
        inside(run, name)


def test_links_that_stay_inside_and_a_linked_run_folder_are_fine(run: Path, tmp_path: Path) -> None:
    assert inside(run, "near") == run / "own.txt"
    (tmp_path / "elsewhere").symlink_to(run)
    assert inside(tmp_path / "elsewhere", "own.txt") == run / "own.txt"


def test_what_a_foreign_journal_names_is_refused_counted_and_passed_over(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_png(run / "grid.png", np.zeros((4, 4, 3), np.uint8))
    database = Database(run.parent / "mlflow.db")
    image = {"kind": "image", "key": "samples/ema", "images": 1, "token": "1"}
    page = {"kind": "media", "key": "samples/page", "images": 1, "form": "page"}
    (run / "page.html").write_text("<p>")
    (run / "secret.html").symlink_to(run.parent / "secret")
    with (run / "large.html").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    climbing = f"/../../../../../../../..{run.parent}/planted"
    refused: list[dict[str, object]] = [
        *({"kind": "artifact", "file": name, "folder": ""} for name in OUTSIDE),
        {"kind": "artifact", "file": "own.txt", "folder": "../up"},
        {"kind": "artifact", "file": "own.txt"},
        image | {"file": "../secret"},
        image | {"file": "grid.png", "token": climbing},
        image | {"file": "grid.png", "images": climbing},
        {"kind": "image", "file": "grid.png"},
        *(page | {"file": name} for name in ("../secret", "secret.html", "large.html", "own.txt", "journal.jsonl")),
        page | {"file": "page.html", "key": "../up/page"},
        page | {"file": "page.html", "key": "/etc/page"},
        {"kind": "media", "file": "page.html", "key": "samples/page", "images": 1},
    ]
    good: list[dict[str, object]] = [
        image | {"file": "grid.png"},
        {"kind": "artifact", "file": "own.txt", "folder": "texts"},
        page | {"file": "page.html"},
    ]
    write_run(run, *refused, *good, uri=embedded_uri(run.parent))
    sync(run)
    (found,) = (run.parent / "mlflow-artifacts").glob("*/artifacts")
    stored = sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file())
    assert [Path(name).suffix for name in stored] == [".webp", ".png", ".html", ".txt"]
    assert "samples/page.html" in stored
    assert "secret" not in "".join((found / name).read_text(errors="replace") for name in stored)
    assert not list(run.parent.glob("planted*"))
    cursor = Cursor.load(run, uri=embedded_uri(run.parent))
    assert cursor.num_rejected == len(refused)
    assert f"{len(refused)} records were refused" in capsys.readouterr().out
    told = [json.loads(line) for line in (run / "tracking" / "rejected.jsonl").read_text().splitlines()]
    assert any("'../secret' lies outside the run folder" in one["reason"] for one in told)
    assert database.uri == embedded_uri(run.parent)


@pytest.mark.parametrize("name", ["../../../../secret", "link", "/etc/hostname"])
def test_a_checkpoint_that_names_other_files_is_not_registered(run: Path, name: str) -> None:
    class Client:
        def log_model_artifacts(self, *_: object) -> None:
            raise AssertionError("uploaded")

    folder = run / "checkpoints" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "link").symlink_to(run.parent / "secret")
    checkpoint = KeptCheckpoint(
        images_seen=1, path=folder, world=1, num_bytes=1, sha256="0", weights={name: "0"}, time_ms=1
    )
    with pytest.raises(FrameworkError, match=r"plain file name|outside the run folder"):
        _store_files(Client(), "m", checkpoint, run_folder=run)


def test_the_server_is_the_users_choice(run: Path) -> None:
    write_run(run, uri=FOREIGN)
    with pytest.raises(FrameworkError, match=f"names {FOREIGN}, which anybody may have written"):
        destination(run, given=None, environment={})
    asked: list[str] = []

    def answer(yes: bool, question: str) -> bool:
        asked.append(question)
        return yes

    assert destination(run, given=None, ask=lambda text: answer(True, text), environment={}) == FOREIGN
    with pytest.raises(FrameworkError):
        destination(run, given=None, ask=lambda text: answer(False, text), environment={})
    assert len(asked) == 2
    assert FOREIGN in asked[0]
    mine = {"MLFLOW_TRACKING_URI": "http://mine"}
    assert destination(run, given=None, environment=mine) == "http://mine"
    assert destination(run, given="http://given", environment=mine) == "http://given"
    assert destination(run, given=None, recorded=True, environment=mine) == FOREIGN
    assert len(asked) == 2, "nothing more to ask"


def test_a_database_is_written_unasked_beside_the_run_only(run: Path) -> None:
    write_run(run, uri=embedded_uri(run.parent))
    assert destination(run, given=None, environment={}) == embedded_uri(run.parent)
    moved = run.rename(run.parents[1] / "moved")
    assert destination(moved, given=None, environment={}) == embedded_uri(moved.parent)
    elsewhere = write_run(run.parent / "other", uri=embedded_uri(run.parents[1] / "not beside it"))
    with pytest.raises(FrameworkError, match=r"the database .*which anybody may have written"):
        destination(elsewhere, given=None, environment={})


def test_no_command_connects_to_the_journals_server_unasked(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(run, uri=FOREIGN)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an upload, or a browser")

    monkeypatch.setattr(command, "upload_now", refuse)
    monkeypatch.setattr(review, "upload_now", refuse)
    monkeypatch.setattr("webbrowser.open", refuse)
    with pytest.raises(FrameworkError, match="anybody may have written"):
        sync(run)
    review.review((run,), browser=True)
    assert FOREIGN in capsys.readouterr().out
    with pytest.raises(FrameworkError, match="anybody may have written"):
        review.review((run,), register="name")
