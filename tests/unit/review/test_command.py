"""Flags of `framework review` that do not go together, and targets that hold no run."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from framework.commands import review as command
from framework.commands.review import review, run_folders
from framework.utils.errors import FrameworkError
from tests.helpers.run_folders import write_run


def test_flags_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="give one of them"):
        review((tmp_path,), out=tmp_path / "x.html", register="name")
    with pytest.raises(FrameworkError, match="--open belongs to --out"):
        review((tmp_path,), open_=True)


def test_a_page_of_everything_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b", "a"):
        write_run(tmp_path / name, checkpoints=())
    assert run_folders(tmp_path / "b", tmp_path) == [tmp_path / "b", tmp_path / "a"]
    review((tmp_path,), out=tmp_path / "x.html")
    assert capsys.readouterr().out == f"{tmp_path / 'x.html'} (0.1 MB)\n"
    with pytest.raises(FrameworkError, match="holds no journal"):
        review((tmp_path / "nothing",), out=tmp_path / "x.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameworkError, match="cannot be written"):
        review((tmp_path,), out=tmp_path / "file" / "x.html")


@pytest.mark.parametrize("failing", [False, True])
def test_a_log_among_temporary_files_stays_only_for_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    logs: list[Path] = []

    @contextlib.contextmanager
    def server(database: Path, *, port: int, log: Path) -> Iterator[str]:
        logs.append(log)
        log.write_text("started")
        if failing:
            raise FrameworkError(f"mlflow server ended (all of it: {log})")
        yield "http://127.0.0.1:1"

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may write everywhere
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(command, "mlflow_server", server)
    monkeypatch.setattr(command, "_show", interrupt)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "mlflow.db").write_text("")
    with pytest.raises(FrameworkError) if failing else contextlib.nullcontext():
        command._serve(Console(), [], tmp_path / "mlflow.db", port=5000, browser=False)
    assert logs[0].is_relative_to(tmp_path / "temporary")
    assert logs[0].exists() == failing
    assert any((tmp_path / "temporary").iterdir()) == failing
