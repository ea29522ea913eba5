"""A run folder on a disk that other machines write: what rank 0 has found may appear here later, or never."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from framework.checkpoint import CheckpointError, Retention, TensorSlice, Writer
from framework.runtime.session import Session
from framework.train import folder as folders
from framework.train.folder import RunFolder
from tests.fuzz.records import RECORD


class Elsewhere(Session):
    """Not rank 0: is told what that has found."""

    def broadcast_text(self, text: str | None) -> str:
        assert text is None
        return "320"


SESSION = Elsewhere(rank=1, world=2, local_rank=0, device=torch.device("cpu"))


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """The folder of a checkpoint of 320 images that is not visible under its name yet."""
    with Writer(tmp_path / "checkpoints", rank=0, world=1, token="t", retention=Retention()) as writer:
        writer.save(
            320, [TensorSlice(key="generator/weight/w", start=0, values=torch.ones(3), shape=(3,))], record=RECORD
        )
    return (tmp_path / "checkpoints/320").rename(tmp_path / "elsewhere")


def test_a_checkpoint_that_is_seen_late_is_waited_for(hidden: Path, tmp_path: Path) -> None:
    timer = threading.Timer(1.0, lambda: hidden.rename(tmp_path / "checkpoints/320"))
    timer.start()
    begun = time.monotonic()
    found = RunFolder(path=tmp_path).newest_checkpoint(SESSION)
    print(f"opened after {time.monotonic() - begun:.1f} s")
    assert found is not None
    with found:
        assert found.images_seen == 320
    timer.join()


def test_a_file_that_is_seen_after_the_manifest_is_waited_for(hidden: Path, tmp_path: Path) -> None:
    folder = hidden.rename(tmp_path / "checkpoints/320")
    (late,) = folder.glob("state-*.safetensors")
    aside = late.rename(tmp_path / "aside")
    timer = threading.Timer(0.5, lambda: aside.rename(late))
    timer.start()
    found = RunFolder(path=tmp_path).newest_checkpoint(SESSION)
    assert found is not None
    with found:
        assert found.full("generator/weight/w").tolist() == [1.0, 1.0, 1.0]
    timer.join()


def test_one_that_never_appears_is_told(hidden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SEEN_WITHIN_SECONDS", 0.3)
    with pytest.raises(
        CheckpointError, match=r"rank 0 has it, but it did not appear here within 0.3 s: is .*all nodes"
    ):
        RunFolder(path=tmp_path).newest_checkpoint(SESSION)


def test_a_marker_that_cannot_be_written_does_not_hide_that_all_is_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    RunFolder(path=tmp_path / "missing").mark_preempted(320)
    assert "PREEMPTED cannot be written: No such file or directory; the checkpoint is saved" in caplog.text
