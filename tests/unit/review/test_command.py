"""Flags of `framework review` that do not go together, and targets that hold no run."""

from __future__ import annotations

from pathlib import Path

import pytest

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
