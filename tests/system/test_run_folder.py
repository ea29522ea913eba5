"""One run folder, one recipe, one launch at a time; and what a killed launch left undone is done by the next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from framework.tracking.records import read_journal
from tests.helpers.launch import ROOT, SMOOTH, TINY, Launch, environment, run

pytestmark = pytest.mark.timeout(300)


def kinds(out: Path) -> list[str]:
    return [record["kind"] for _, record in read_journal(out / "journal.jsonl")]


def test_a_second_launch_into_the_same_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--tracking", "none", "--out", str(out))
    with Launch(TINY, *flags, "--images", "100k", world=1, log=tmp_path / "first.log") as first:
        first.until(lambda: (out / "journal.jsonl").exists() and "images  " in first.text())
        recipe = (out / "recipe.json").read_bytes()
        saving = out / "checkpoints" / ".999-another-1.tmp"
        saving.mkdir()
        with Launch(TINY, *flags, "--images", "5k", world=1, log=tmp_path / "second.log") as second:
            assert second.wait() == 2
            assert "another" in second.text()
            assert "Traceback" not in second.text()
        assert (out / "recipe.json").read_bytes() == recipe
        assert saving.is_dir(), "a save of the running launch was swept away"
        assert first.process.poll() is None


def test_another_recipe_before_the_first_checkpoint_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--tracking", "none", "--out", str(out))
    with Launch(TINY, *flags, "--images", "100k", world=1, log=tmp_path / "first.log") as first:
        first.until(lambda: "images  " in first.text())
        first.kill()
    with Launch(TINY, *flags, "--set", "generator.optimizer.lr=5e-2", world=1, log=tmp_path / "second.log") as second:
        assert second.wait() == 2
        assert "was begun with another recipe" in second.text()


def test_a_launch_killed_after_its_last_checkpoint_is_completed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--tracking", "none", "--out", str(out), "--images", "64")
    run(TINY, *flags, world=1, log=tmp_path / "first.log")
    journal = out / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    # What SIGKILL right after the last save leaves: no generator among the artifacts, no end.
    journal.write_text("".join(x for x in lines if json.loads(x)["kind"] not in ("artifact", "end")))
    text = run(TINY, *flags, world=1, log=tmp_path / "second.log")
    assert "already finished" in text
    assert kinds(out)[-1] == "end"
    files = [record["file"] for _, record in read_journal(journal) if record["kind"] == "artifact"]
    assert "checkpoints/64/manifest.json" in files
    assert list_checkpoints(out / "checkpoints") == [64]


def test_a_data_error_on_one_process_ends_both_with_one_message(tmp_path: Path, tiny_data: Path) -> None:
    import shutil

    shards = tmp_path / "shards"
    shutil.copytree(tiny_data, shards)
    manifest = json.loads((shards / "manifest.json").read_text())
    victim = shards / manifest["shards"][-1]["name"]
    content = bytearray(victim.read_bytes())
    position = content.rfind(b"\x89PNG")
    assert position > 0
    content[position : position + 200] = bytes(200)
    victim.write_bytes(content)
    flags = ("--tracking", "none", "--out", str(tmp_path / "run"), "--images", "100k", "--data", str(shards))
    with Launch(SMOOTH, *flags, world=2, log=tmp_path / "log") as launch:
        assert launch.wait(timeout_seconds=200) != 0
        text = launch.text()
    assert victim.name in text
    assert text.count("Traceback") <= 1, "Accelerate's own"
    assert kinds(tmp_path / "run")[-1] == "end" or "rank 0" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--micro-batches", "17"), "leaves some of"),
        (("--out", "/proc/run"), "/proc/run"),
        (("--images", "abc"), "abc"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(flags: tuple[str, str], message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TINY), "--tracking", "none", "--images", "64", "--out", str(tmp_path / "run"), *flags],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "recipe.json").exists()
