"""Runs that were moved, copied, or belong to another account: MLflow's database and the identity of the run follow."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from framework.commands.review import find_runs
from framework.commands.sync import sync, upload_now
from framework.tracking import Tracker, embedded_uri
from framework.tracking.destination import destination
from framework.tracking.moved import follow
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.utils.errors import FrameworkError
from tests.helpers.journals import records
from tests.helpers.launch import environment
from tests.helpers.run_folders import write_checkpoints

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn


def begin(run: Path) -> Tracker:
    return Tracker.open(run, uri=embedded_uri(run.parent), experiment="e", run_name=run.name, start_upload=False)


def write(run: Path, *, steps: range) -> None:
    tracker = begin(run)
    for images in steps:
        tracker.metrics({"loss/D": images / 7}, images_seen=images)
    tracker.image("samples/ema", np.full((8, 8, 3), steps[-1], np.uint8), images_seen=steps[-1])
    write_checkpoints(run, [steps[-1]])
    tracker.tags({"framework.checkpoint": f"checkpoints/{steps[-1]}"})
    tracker.finish("KILLED")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one uploaded run, that stays where it is."""
    return uploaded(tmp_path_factory.mktemp("first") / "runs")


def uploaded(runs: Path) -> Path:
    write(runs / "a", steps=range(1, 5))
    sync(runs / "a")
    return runs


def rows(database: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def points(database: Path) -> dict[str, list[int]]:
    """Steps of a metric by run."""
    found: dict[str, list[int]] = {}
    for run, step in rows(database, "SELECT run_uuid, step FROM metrics WHERE key = 'loss/D' ORDER BY step"):
        found.setdefault(run, []).append(step)
    return found


def addresses(database: Path) -> list[str]:
    queries = (
        "SELECT artifact_uri FROM runs",
        "SELECT artifact_location FROM experiments WHERE name = 'e'",
        "SELECT artifact_location FROM logged_models",
    )
    return [row[0] for query in queries for row in rows(database, query)]


def locations(database: Path, table: str) -> set[str]:
    """Where MLflow thinks that checkpoints are."""
    key, value = ("tag_key", "tag_value") if table == "logged_model_tags" else ("key", "value")
    return {row[0] for row in rows(database, f"SELECT {value} FROM {table} WHERE {key} = 'framework.checkpoint'")}


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_folder_of_runs_elsewhere_is_whole_there(original: Path, tmp_path: Path, how: str) -> None:
    before = original if how == "copied" else uploaded(tmp_path / "before/runs")
    here = tmp_path / "after here/runs"
    here.parent.mkdir()
    shutil.move(before, here) if how == "moved" else shutil.copytree(before, here)
    assert [run.uri for run in find_runs(here / "a")] == [embedded_uri(here)]
    write(here / "a", steps=range(5, 8))  # a resume
    assert destination(here / "a", given=None, environment={}) == embedded_uri(here)
    assert upload_now(here / "a", uri=embedded_uri(here)).uri == embedded_uri(here)
    assert all(address.startswith(f"{here.as_uri()}/mlflow-artifacts") for address in addresses(here / "mlflow.db"))
    found = points(here / "mlflow.db")
    if how == "moved":
        assert not before.exists(), "made again"
        assert list(found.values()) == [[1, 2, 3, 4, 5, 6, 7]]
        models = {str(here / f"a/checkpoints/{images}") for images in (4, 7)}
        assert locations(here / "mlflow.db", "logged_model_tags") == models
    else:
        assert sorted(found.values()) == [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]]
        assert list(points(before / "mlflow.db").values()) == [[1, 2, 3, 4]], "the original was written to"
    assert str(here / "a/checkpoints/7") in locations(here / "mlflow.db", "tags")


def test_a_copy_beside_the_original_is_a_run_of_its_own(original: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(original, runs)
    write(runs / "a", steps=range(5, 6))
    shutil.copytree(runs / "a", runs / "b")
    write(runs / "b", steps=range(6, 8))
    write(runs / "a", steps=range(6, 7))
    sync(runs / "a")
    sync(runs / "b")
    ids = [last_start(runs / name / JOURNAL_NAME)["uid"] for name in "ab"]
    assert ids[0] != ids[1]
    assert [record.get("copy_of") for record in records(runs / "b", "start")][-1] == ids[0]
    by_name = dict(rows(runs / "mlflow.db", "SELECT name, run_uuid FROM runs"))
    found = points(runs / "mlflow.db")
    assert found[by_name["b"]] == list(range(1, 8))
    assert found[by_name["a"]] == list(range(1, 7))
    write(runs / "b", steps=range(8, 9))
    assert last_start(runs / "b" / JOURNAL_NAME)["uid"] == ids[1], "only once"


def test_the_same_folder_by_another_path_is_the_same_run(tmp_path: Path) -> None:
    begin(tmp_path / "a").finish("KILLED")
    (tmp_path / "link").symlink_to(tmp_path)
    begin(tmp_path / "link/a").finish("KILLED")
    assert len({record["uid"] for record in records(tmp_path / "a", "start")}) == 1


def test_artifacts_that_are_kept_elsewhere_stay_there(original: Path, tmp_path: Path) -> None:
    shutil.copy(original / "mlflow.db", tmp_path / "mlflow.db")
    before = addresses(tmp_path / "mlflow.db")
    assert follow(tmp_path / "mlflow.db") == 0, "no artifacts beside it"
    assert addresses(tmp_path / "mlflow.db") == before


READ = """
import os, sys
from pathlib import Path
import framework.commands.sync, framework.review  # the libraries may lie where only root can read
from framework.utils.errors import FrameworkError
from framework.tracking.lock import writer_is_alive
os.setgroups([]); os.setgid(65534); os.setuid(65534)
run = Path(sys.argv[1])
print(framework.review.read_run(run).name, writer_is_alive(run / "journal.lock"))
try:
    framework.commands.sync.sync(run)
except FrameworkError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another account")
def test_another_account_reads_it() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's, which are for one account
        write(Path(folder) / "a", steps=range(1, 5))
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = [sys.executable, "-c", READ, str(Path(folder) / "a")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        name, sentence = done.stdout.splitlines()
        assert name == "a False"
        assert "Upload as an account that may write there" in sentence


def test_it_says_so_when_the_addresses_cannot_change(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(original, runs)
    connect = sqlite3.connect

    def read_only(database: object, **options: object) -> sqlite3.Connection:
        return connect(f"file:{runs / 'mlflow.db'}?mode=ro", uri=True)

    monkeypatch.setattr("sqlite3.connect", read_only)
    with pytest.raises(FrameworkError, match="was moved or copied here"):
        follow(runs / "mlflow.db")
