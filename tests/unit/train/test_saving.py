"""What a checkpoint records besides tensors, and what happens when a save fails."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import torch

from framework.checkpoint import Checkpoint, CheckpointError, Retention, Writer, list_checkpoints
from framework.games.metrics import Metrics
from framework.runtime.health import FiniteGuard
from framework.runtime.session import Session
from framework.runtime.straggling import StepTimer
from framework.tracking import NullTracker
from framework.train.console import Status
from framework.train.health import LEAST_STEPS, HealthMonitor, Recovery, Rollback
from framework.train.loop import Window
from framework.train.memory import MicroBatching
from framework.train.saving import RunRecord, Saver
from tests.helpers.play import Played, smooth_recipe, start

CPU = torch.device("cpu")
ALONE = Session(rank=0, world=1, local_rank=0, device=CPU)


class Data:
    count, fingerprint, class_names = 200, "f" * 64, ("zero", "one")


class Disk:
    """The disk of a run, which may be full."""

    full = False

    def at(self, point: str) -> None:
        if self.full and point != "snapshot":  # that one is taken in memory
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def played() -> Played:
    return start(smooth_recipe())


def recorded(played: Played) -> RunRecord:
    average = played.state.averages["generator"]
    return RunRecord(
        session=ALONE,
        recipe=played.recipe,
        state=played.state,
        stream=Data(),
        window=Window(timer=StepTimer(CPU)),
        guard=FiniteGuard(most_in_a_row=20),
        health_monitor=HealthMonitor(
            played.recipe, state=played.state, average=average, session=ALONE, on_collapse="warn"
        ),
    )


def saver_of(record: RunRecord, folder: Path, disk: Disk) -> Saver:
    writer = Writer(folder, rank=0, world=1, token="launch", retention=Retention(last=9), at=disk.at)
    status = Status(name="run", images_seen=0, total=100, quiet=True)
    return Saver(record=record, writer=writer, folder=folder, tracker=NullTracker(), status=status)


def test_a_run_takes_up_all_that_its_checkpoint_records(played: Played, tmp_path: Path) -> None:
    record = recorded(played)
    scores = Metrics()
    scores.add("loss/D", 0.3)
    record.window.add(scores, wait_seconds=0.1, skipped_samples=2)
    record.guard.begin(images_seen=24, skipped_steps=3)
    record.health_monitor.take({"loss/D": 0.7}, steps=LEAST_STEPS - 1)
    record.skipped_samples, record.micro_batching = 5.0, MicroBatching(world=4, micro_batches=2)
    record.recovery = Recovery(rollbacks=(Rollback(from_images=48, to_images=24, reason="it collapsed"),))
    saver = saver_of(record, tmp_path / "checkpoints", Disk())
    saver.save(24)
    saver.writer.close()
    resumed = recorded(played)
    assert resumed.contents() != record.contents()
    resumed.restore(Checkpoint.open(tmp_path / "checkpoints/24"))
    before, after = record.contents(), resumed.contents()
    assert after.pop("skipped_samples") == before.pop("skipped_samples") == 7.0
    assert after == before


def test_training_goes_on_after_a_failed_save_and_waits_for_the_next(
    played: Played, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, folder = Disk(), tmp_path / "checkpoints"
    saver = saver_of(recorded(played), folder, disk)
    saver.save(10)
    assert saver.settle()
    disk.full = True
    saver.save(20)
    with caplog.at_level(logging.WARNING):
        assert not saver.settle()
        assert not saver.settle()
    assert sum("training goes on without it" in record.message for record in caplog.records) == 1, "said once"
    assert saver.failed_saves == 1
    disk.full = False
    saver.save(20)  # the same clock again: there is no checkpoint of it
    assert list_checkpoints(folder) == [10, 20], "a second attempt is waited for"
    assert saver.settle()
    assert saver.waited_seconds > 0


def test_two_failed_saves_in_a_row_end_training(played: Played, tmp_path: Path) -> None:
    disk, folder = Disk(), tmp_path / "checkpoints"
    saver = saver_of(recorded(played), folder, disk)
    disk.full = True
    saver.save(10)
    with pytest.raises(CheckpointError, match="No space left"):
        saver.save(20)
    assert list_checkpoints(folder) == []


def test_one_clock_is_saved_once_unless_it_is_saved_anew(played: Played, tmp_path: Path) -> None:
    record, folder = recorded(played), tmp_path / "checkpoints"
    saver = saver_of(record, folder, Disk())
    saver.save(10)
    record.recovery = Recovery(rollbacks=(Rollback(from_images=20, to_images=10, reason="it collapsed"),))
    saver.save(10)
    saver.settle()
    assert Checkpoint.open(folder / "10").record["rollbacks"] == []
    saver.save_anew(10)
    assert Checkpoint.open(folder / "10").record["rollbacks"] == record.recovery.state()
