from pathlib import Path

import pytest

from framework.tracking.cursor import Cursor, Position
from framework.tracking.journal import Journal
from framework.tracking.uri import check_uri, embedded_uri, is_redacted, move_credentials, redact, without_secrets
from framework.utils.errors import FrameworkError


def journal_of(folder: Path, steps: int) -> Path:
    journal = Journal(folder)
    for step in range(steps):
        journal.write("metrics", {"images": step, "values": {"loss/G": float(step)}})
    journal.close()
    return journal.path


def test_cursor_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 20)
    cursor = Cursor.load(tmp_path, uri="http://host:5000")
    assert (cursor.run_id, cursor.points.offset_bytes) == ("", 0)
    cursor.run_id, cursor.status = "run", "RUNNING"
    cursor.points.move(path, to_bytes=path.stat().st_size)
    cursor.save()
    again = Cursor.load(tmp_path, uri="http://host:5000")
    assert again == cursor
    assert Cursor.load(tmp_path, uri="http://other:5000").run_id == "", "each store has its own"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"points": 1, "files": {}}', '{"points": {}, "files": {}, "x": 1}'])
def test_damaged_cursor_starts_over(tmp_path: Path, damage: str) -> None:
    journal_of(tmp_path, 3)
    cursor = Cursor.load(tmp_path, uri="http://host")
    cursor.run_id = "run"
    cursor.save()
    cursor.path.write_text(damage)
    assert Cursor.load(tmp_path, uri="http://host").run_id == ""


def test_position_counts_only_for_the_journal_it_was_taken_in(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 20)
    cursor = Cursor.load(tmp_path, uri="http://host")
    size = path.stat().st_size
    cursor.points.move(path, to_bytes=size)
    cursor.files.move(path, to_bytes=100)
    cursor.save()
    # A power cut took the end of the journal, and training has written other records since.
    path.write_bytes(path.read_bytes()[: size // 2] + b"x" * size)
    cursor = Cursor.load(tmp_path, uri="http://host")
    assert cursor.points.offset_bytes == 0
    assert cursor.files.offset_bytes == 100
    path.write_bytes(b"short")
    assert Cursor.load(tmp_path, uri="http://host").files.offset_bytes == 0


def test_passwords_are_redacted() -> None:
    assert redact("postgresql://me:secret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert is_redacted("postgresql://me:***@db:5432/x")
    for uri in ("sqlite:////abs/mlflow.db", "http://host:5000", "http://me@host"):
        assert redact(uri) == uri
        assert not is_redacted(uri)


def test_uris_are_checked_and_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert embedded_uri("runs") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    for uri in (
        "http://host:5000",
        "postgresql+psycopg2://me@db/x",
        "sqlite:////abs/mlflow.db",
        "databricks://profile",
    ):
        assert check_uri(uri) == uri
    for uri in ("runs/mlflow.db", "file:///abs/mlruns", "./mlruns"):
        with pytest.raises(FrameworkError, match="no MLflow tracking URI"):
            check_uri(uri)


def test_credentials_move_into_variables() -> None:
    environment = {"MLFLOW_TRACKING_TOKEN": "t", "HOME": "/"}
    assert move_credentials("https://me:p%2Fw@host:1/x", environment=environment) == "https://host:1/x"
    assert environment == {"HOME": "/", "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p/w"}
    for uri in ("https://host:1/x", "http://me@host", "postgresql://me:pw@db/x", "sqlite:////a/b.db"):
        environment = {}
        assert move_credentials(uri, environment=environment) == uri
        assert environment == {}


def test_messages_lose_their_secrets() -> None:
    uri, environment = "postgresql://me:p%2Fw@db/x", {"MLFLOW_TRACKING_TOKEN": "tok-1"}
    text = "cannot reach postgresql://me:p%2Fw@db/x as me with p/w or tok-1, nor https://a:b@c/?d=e"
    told = without_secrets(text, uri=uri, environment=environment)
    assert told == "cannot reach postgresql://***@db/x as me with *** or ***, nor https://***@c/?***"
    assert redact("https://token:@host/?key=1") == "https://:***@host/?***"
    assert is_redacted(redact("https://host/?key=1"))


def test_a_position_far_beyond_the_journal_starts_over(tmp_path: Path) -> None:
    """Some file systems refuse to seek that far."""
    (tmp_path / "journal.jsonl").write_bytes(b"x" * 100)
    position = Position(offset_bytes=1 << 53, probe="0123456789abcdef")
    position.check(tmp_path / "journal.jsonl")
    assert position == Position()
