"""Checkpoints as MLflow models in a real store: made once, scored later, marked when deleted, registered, found."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.commands.review import _register
from framework.tracking.checkpoints import Score, best_of, read_checkpoint
from framework.tracking.cursor import Cursor
from framework.utils.errors import FrameworkError
from tests.helpers.mlflow_store import Database
from tests.helpers.run_folders import FID, OTHER_FID, fid, write_checkpoints, write_run, write_scores

# MLflow's own imports warn.
pytestmark = pytest.mark.filterwarnings("ignore")

Advance = Callable[[], Cursor]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(tmp_path_factory.mktemp("store") / "mlflow.db")


@pytest.fixture
def run(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose journal names the store, but without an upload process of its own."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    tracker = write_run(tmp_path / "r", name="my/run", status=None, checkpoints=(), steps=(160, 320, 640))
    tracker.health("diversity", "ok", images_seen=320, reason="within its bounds")
    tracker.health("sign_saturation", "warn", images_seen=320, reason="0.9 of real images", remedy="more data")
    tracker.evaluation({"kid": {"value": 0.5, "protocol": FID}}, images_seen=320)
    tracker.resumed(images_seen=320)
    tracker.finish("FINISHED")
    write_checkpoints(tmp_path / "r", (160, 320))
    return tmp_path / "r"


def upload(run: Path, database: Database) -> Cursor:
    """What the upload process does, in this process."""
    from framework.tracking.projection import Projection
    from framework.tracking.queues import UploadQueues

    cursor = Cursor.load(run, uri=database.uri)
    queues = UploadQueues(run, projection=Projection(database.uri), cursor=cursor)
    while queues.advance_points() or queues.advance_files() or queues.advance_models(hurry=True):
        pass
    return Cursor.load(run, uri=database.uri)


def models(database: Database, cursor: Cursor) -> dict[str, dict[str, str]]:
    """Name -> tags of the run's models."""
    rows = database.query("SELECT model_id, name FROM logged_models WHERE source_run_id = ?", cursor.run_id)
    assert len(rows) == len({name for _, name in rows}), "a model twice"
    query = "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?"
    return {name: dict(database.query(query, model_id)) for model_id, name in rows}


def scores(database: Database, cursor: Cursor, images_seen: int) -> dict[str, float]:
    (entry,) = [entry for entry in cursor.models.values() if entry["images"] == images_seen]
    query = "SELECT metric_name, metric_value FROM logged_model_metrics WHERE model_id = ?"
    return dict(database.query(query, entry["model_id"]))


def points(database: Database, cursor: Cursor, name: str) -> list[tuple[int, float]]:
    query = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step, timestamp"
    return database.query(query, cursor.run_id, name)


def test_checkpoints_become_models_and_their_fate_is_told(run: Path, database: Database) -> None:
    write_scores(run, 320, {"kid": {"value": 0.5, "protocol": FID}})
    cursor = upload(run, database)
    found = models(database, cursor)
    assert found.keys() == {"my-run-160", "my-run-320"}
    checkpoint = read_checkpoint(run / "checkpoints/320")
    tags = found["my-run-320"]
    assert tags["framework.checkpoint"] == str(run / "checkpoints/320")
    assert tags["framework.manifest_sha256"] == checkpoint.sha256
    assert json.loads(tags["framework.files_sha256"]) == checkpoint.weights
    assert tags["mlflow.model.isExternal"] == "true"
    assert scores(database, cursor, 320) == {"loss/D": 3.2, "loss/G": -3.2, "metrics/kid-1a2b3c4d": 0.5}
    assert scores(database, cursor, 160) == {"loss/D": 1.6, "loss/G": -1.6}
    assert not cursor.models_are_behind(run)

    # Evaluated a week later; then retention takes one away.
    write_scores(run, 320, {"kid": {"value": 0.5, "protocol": FID}, "fid50k": fid(12.0)})
    assert cursor.models_are_behind(run)
    shutil.rmtree(run / "checkpoints/160")
    cursor = upload(run, database)
    assert scores(database, cursor, 320)["metrics/fid50k-1a2b3c4d"] == 12.0
    found = models(database, cursor)
    assert found["my-run-160"]["framework.kept"].startswith("false")
    assert found["my-run-320"]["framework.kept"] == "true"
    assert json.loads(found["my-run-320"]["framework.protocol.1a2b3c4d"]) == FID

    # Everything is forgotten and sent once more: nothing is there twice.
    cursor.restart()
    cursor.save()
    cursor = upload(run, database)
    assert models(database, cursor).keys() == {"my-run-160", "my-run-320"}
    for name, expected in {
        "metrics/kid-1a2b3c4d": [(320, 0.5)],  # in the journal and in scores.json
        "metrics/fid50k-1a2b3c4d": [(320, 12.0)],
        "loss/D": [(160, 1.6), (320, 3.2), (640, 6.4)],
    }.items():
        assert points(database, cursor, name) == expected, name
    outputs = database.query("SELECT destination_id FROM inputs WHERE source_id = ?", cursor.run_id)
    assert len(outputs) == 2, "each model is linked to its run once"


def test_a_folder_out_of_sight_is_not_deleted_and_damage_stops_nothing(run: Path, database: Database) -> None:
    upload(run, database)
    (run / "checkpoints").rename(run / "elsewhere")
    cursor = upload(run, database)
    assert all(tags["framework.kept"] == "true" for tags in models(database, cursor).values())
    (run / "elsewhere").rename(run / "checkpoints")
    (run / "checkpoints/160/manifest.json").write_text("{}")
    (run / "checkpoints/320/scores.json").write_text('{"fid50k": "good"}')
    with (run / "journal.jsonl").open("a") as file:
        file.write(
            '{"kind":"metrics","time_ms":1,"values":{"loss/D":1}}\n{"kind":"metrics","time_ms":1,"images":"x"}\n'
        )
    write_checkpoints(run, (480,))
    cursor = upload(run, database)
    assert "my-run-480" in models(database, cursor)
    assert all(tags["framework.kept"] == "true" for tags in models(database, cursor).values())


def test_a_server_without_models_gets_the_rest(
    run: Path, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    from framework.tracking import models as module

    def old_server(*_: object, **__: object) -> str:
        raise MlflowException("no such endpoint", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(module, "_find_or_create", old_server)
    cursor = upload(run, database)
    assert points(database, cursor, "loss/D")[-1] == (640, 6.4)
    assert cursor.models == {}
    assert "no logged models" in capsys.readouterr().out


def test_what_the_page_of_a_run_says(run: Path, database: Database) -> None:
    cursor = upload(run, database)
    tags = dict(database.query("SELECT key, value FROM tags WHERE run_uuid = ?", cursor.run_id))
    assert tags["framework.health"] == "warn"
    assert "framework.health.diversity" not in tags, "what was always in order needs no tag of its own"
    assert tags["framework.health.sign_saturation"] == "warn at 320: 0.9 of real images"
    assert tags["framework.lineage"] == "new > resumed at 320"
    rows = database.query("SELECT name, digest, dataset_source, dataset_profile FROM datasets")
    assert rows == [("shapes", "d" * 36, '{"uri": "https://***@store/shapes?***"}', '{"count": 100}')]


def test_the_best_is_registered_and_found_again(run: Path, database: Database, tmp_path: Path) -> None:
    from framework.tracking.artifacts import download_checkpoint
    from framework.tracking.registry import register_best

    write_scores(run, 160, {"fid50k": fid(10.0), "precision": {"value": 0.2, "protocol": FID}})
    write_scores(run, 320, {"fid50k": fid(12.0), "precision": {"value": 0.4, "protocol": FID}})
    upload(run, database)
    first = register_best(run, uri=database.uri, name="shapes", by="fid")
    second = register_best(run, uri=database.uri, name="shapes", by="precision")
    assert (first.images, second.images) == (160, 320)
    assert (first.number, second.number) == (1, 2)

    def located(uri: str) -> Path:
        into = tmp_path / f"download-{uuid.uuid4().hex}"
        into.mkdir()
        return download_checkpoint(uri, into=into, tracking_uri=database.uri)

    assert located("models:/shapes/1") == run / "checkpoints/160"
    assert located("models:/shapes@best") == run / "checkpoints/320"
    # Another machine: what was stored with the model is the same checkpoint.
    expected = read_checkpoint(run / "checkpoints/160")
    (run / "checkpoints/160").rename(tmp_path / "hidden")
    stored = located("models:/shapes/1")
    assert stored != run / "checkpoints/160"
    assert read_checkpoint(stored).sha256 == expected.sha256
    assert {path.name for path in stored.iterdir()} == {"manifest.json", *expected.weights}
    # The run went back and wrote another checkpoint of that clock.
    shutil.copytree(run / "checkpoints/320", run / "checkpoints/160")
    assert located("models:/shapes/1") not in (run / "checkpoints/160", run / "checkpoints/320")
    for uri, message in {
        "models:/shapes/9": "not found",
        "models:/shapes": "write it as models:/NAME/VERSION",
        "models:/shapes/latest": "write it as models:/NAME/VERSION",
        "models:/m-" + "0" * 32: "not found",
    }.items():
        with pytest.raises(FrameworkError, match=message):
            located(uri)


def test_a_model_that_cannot_be_reached_says_so(run: Path, database: Database) -> None:
    from framework.tracking.artifacts import download_checkpoint

    cursor = upload(run, database)
    shutil.rmtree(run / "checkpoints")
    model_id = next(iter(cursor.models.values()))["model_id"]
    with pytest.raises(FrameworkError, match=r"cannot be reached from this machine \(no such folder\).*--register"):
        download_checkpoint(f"models:/{model_id}", into=run, tracking_uri=database.uri)


def test_evaluated_offline_with_or_without_the_journal(run: Path, database: Database) -> None:
    """As `framework evaluate` writes: beside the checkpoint, and in the journal once no trainer holds it."""
    from framework.tracking.journal import Journal

    key = f"fid50k-{FID['hash']}"
    (run / "checkpoints/320/evaluation.json").write_text(json.dumps({"format": 1, "records": {key: fid(12.0)}}))
    write_scores(run, 320, {key: 12.0})
    cursor = upload(run, database)
    assert scores(database, cursor, 320)[f"metrics/{key}"] == 12.0
    journal = Journal(run)
    journal.write("metrics", {"images": 320, "values": {f"metrics/{key}": 12.0, "loss/late": 1.0}})
    journal.write("evaluation", {"images": 320, "records": {"fid50k": fid(12.0)}})
    journal.close()
    cursor = upload(run, database)
    assert points(database, cursor, f"metrics/{key}") == [(320, 12.0)], "the same score twice"
    assert points(database, cursor, "loss/late") == [(320, 1.0)]


def test_two_protocols_are_not_compared(run: Path, database: Database) -> None:
    from framework.tracking.registry import register_best

    write_scores(run, 160, {"fid50k": fid(10.0, OTHER_FID)})
    write_scores(run, 320, {"fid50k": fid(12.0)})
    upload(run, database)
    with pytest.raises(FrameworkError, match=r"fid50k-1a2b3c4d, fid50k-5e6f7a8b.*not comparable"):
        register_best(run, uri=database.uri, name="two", by="fid50k")
    with pytest.raises(FrameworkError, match=r"no checkpoint has such a score; nearest: fid50k"):
        register_best(run, uri=database.uri, name="two", by="fid5k")
    assert register_best(run, uri=database.uri, name="two", by="fid50k-1a2b3c4d").images == 320


def test_best_is_per_protocol_and_direction() -> None:
    found = best_of(
        {
            1: [Score(name="fid", value=3.0, protocol=FID), Score(name="recall", value=0.1)],
            2: [Score(name="fid", value=2.0, protocol=OTHER_FID), Score(name="recall", value=0.3)],
            3: [Score(name="fid", value=3.0, protocol=FID), Score(name="recall", value=0.3)],
        }
    )
    assert {name: images for name, (images, _) in found.items()} == {
        "metrics/fid-1a2b3c4d": 1,
        "metrics/fid-5e6f7a8b": 2,
        "metrics/recall": 2,
    }


def test_registering_takes_one_run(run: Path) -> None:
    with pytest.raises(FrameworkError, match="best checkpoint of one run, these are 2"):
        _register(None, [None, None], name="x", by="fid")  # type: ignore[arg-type, list-item]
