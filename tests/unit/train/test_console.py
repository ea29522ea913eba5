"""Status lines, the clock, and where a command line's data is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from framework.tracking.uri import redact_text
from framework.train.config import RunConfig
from framework.train.console import Status
from framework.train.launch import data_location
from framework.train.loop import crossed
from framework.train.tracking import command_line, headline
from framework.utils.errors import FrameworkError
from tests.helpers.play import small_recipe


def test_periodic_work_is_due_when_a_multiple_is_crossed() -> None:
    due = [after for after in range(64, 1025, 64) if crossed(200, before=after - 64, after=after)]
    assert due == [256, 448, 640, 832, 1024]
    assert not crossed(None, before=0, after=10**6)
    assert not crossed(0, before=0, after=10**6)


def test_plain_status_lines_elsewhere_than_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Status(name="x", images_seen=0, total=1000) as status:
        status.advance(100, phase="train")
        status.report(500, {"loss/D": 1.25, "loss/G": 0.5}, phase="train")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    for part in ("500/1,000 images", "img/s", "ETA", "loss/D 1.250", "loss/G 0.500"):
        assert part in out


def test_a_live_bar_on_a_terminal() -> None:
    code = (
        "from framework.train.console import Status\nimport time\n"
        "with Status(name='x', images_seen=0, total=1000) as s:\n"
        "    s.report(500, {'loss/D': 1.25}, phase='train'); time.sleep(0.3); s.say('a line that stays')\n"
    )
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    output = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:  # Linux reports the end of a terminal so
            break
        output += chunk
    os.close(main)
    assert process.wait() == 0
    text = output.decode()
    assert "500/1,000 images" in text
    assert "loss/D 1.250" in text
    assert "━" in text
    assert "a line that stays" in text


def test_data_beside_the_recipe_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "recipe.py")])
    recipe = small_recipe()
    there = recipe.data.__class__(location="shards", resolution=32, channels=1, classes=5)
    from dataclasses import replace

    assert data_location(replace(recipe, data=there), RunConfig()) == str(tmp_path / "shards")
    with pytest.raises(FrameworkError, match=r"neither at .* nor at .* --data"):
        data_location(recipe, RunConfig())
    assert data_location(recipe, RunConfig(data="https://x/")) == "https://x/"


def test_passwords_do_not_reach_the_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [
        "r.py",
        "--tracking",
        "postgresql://me:secret@host/db",
        "--data=https://u:secret@host/x/",
        "--set",
        "seed=1",
    ]
    monkeypatch.setattr(sys, "argv", argv)
    assert "secret" not in command_line()
    for text in ("pipe:curl https://me:secret@h/x", "http://a/x http://u:secret@h/y", "https://h/x.tar?sig=secret&b=1"):
        assert "secret" not in redact_text(text)
    assert "--set seed=1" in command_line()


def test_the_parameter_table_holds_the_headline_and_what_was_changed() -> None:
    told = headline(small_recipe(), changed=("generator.network.width=4", "generator.optimizer.betas=0.0,0.9"))
    assert told["generator.optimizer.lr"] == 1e-3
    assert told["game.loss.type"] == "Hinge"
    assert told["generator.network.width"] == 4
    assert len(told) == 7, "MLflow prints every parameter above every grid"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"keep_last": 0}, "--keep-last 0: must be at least 1"),
        ({"keep_every_images": 0}, "--keep-every-images 0"),
        ({"micro_batches": 0}, "--micro-batches 0"),
        ({"workers": -1}, "--workers -1"),
        ({"json": True}, "--json belongs to --dry-run"),
        ({"data": ""}, "--data: give a folder"),
        ({"out": Path("")}, "--out: give a folder"),
        ({"tracking": "http://[bad"}, r"--tracking http://\[bad"),
        ({"tracking": "foo"}, "no MLflow tracking URI"),
    ],
)
def test_flags_that_cannot_work_are_refused(flags: dict[str, object], message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        RunConfig(**flags).check()  # type: ignore[arg-type]
