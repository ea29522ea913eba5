"""A command that is printed can be pasted into a shell, whatever the folders are called."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import framework
from framework.commands.review import find_runs
from framework.tracking import Tracker, embedded_uri
from framework.tracking.destination import destination
from framework.tracking.process import UploadProcess
from framework.utils.errors import FrameworkError

NAME = "it's $HOME; a `run`"


def pasted(text: str, *, begin: str) -> list[str]:
    """The words a shell makes of the command in a message, from `begin` to its end."""
    return shlex.split(text[text.index(begin) :])


def test_a_sentence_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadProcess, "_start", lambda self: setattr(self, "_process", None))
    process = UploadProcess(tmp_path / NAME, uri="http://127.0.0.1:1")
    sentence = process.finish(wait_seconds=0)
    assert sentence is not None
    assert pasted(sentence, begin="framework sync") == ["framework", "sync", str(tmp_path / NAME)]


def test_sentences_of_review_and_sync(tmp_path: Path) -> None:
    run = tmp_path / NAME / NAME
    Tracker.open(run, uri=None, experiment="e", run_name="r").finish("FINISHED")
    store = ["--uri", embedded_uri(tmp_path / NAME)]
    with pytest.raises(FrameworkError) as refused:
        find_runs(run)
    command = str(refused.value).removesuffix(", or write a page with --out report.html")
    assert pasted(command, begin="framework sync") == ["framework", "sync", str(run), *store]
    with pytest.raises(FrameworkError) as refused:
        destination(run, given=None, environment={})
    assert pasted(str(refused.value), begin="--uri") == store


def test_no_message_puts_a_value_behind_a_command_by_itself() -> None:
    found = []
    for path in sorted(Path(framework.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
                if re.search(r"\bframework (sample|evaluate|review|sync|pack|import|export)\b( --?[\w-]+)* \{\}", text):
                    found.append(f"{path.name}:{node.lineno}: {text}")
    assert found == []
