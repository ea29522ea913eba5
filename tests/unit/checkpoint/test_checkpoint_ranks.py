"""Ranks that share a folder: late, failing, missing and disagreeing ones; all learn the same outcome."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from framework.checkpoint import CheckpointError, TensorSlice, list_checkpoints, newest_valid
from framework.checkpoint.layout import part_file


def one_piece(rank: int, *, start: int | None = None, size: int = 4, shape=(8,), key="generator/weight/w"):
    return [TensorSlice(key=key, start=4 * rank if start is None else start, values=torch.ones(size), shape=shape)]


def test_missing_ranks_are_named_after_the_timeout(folder, state, save, open_writer):
    save(state, 1)
    writer = open_writer(rank=0, world=4, timeout_seconds=0.2)
    writer.save(2, one_piece(0, shape=(16,)))
    other = open_writer(rank=2, world=4, timeout_seconds=0.2)
    other.save(2, one_piece(2, shape=(16,)))
    with pytest.raises(CheckpointError, match=r"rank 1, 3 \(2 of 4\) did not deliver within 0.2 s .*not shared"):
        writer.wait()
    with pytest.raises(CheckpointError, match="rank 0 gave it up"):
        other.wait()
    assert list_checkpoints(folder) == [1]


def test_a_rank_without_rank_0_gives_up(open_writer):
    writer = open_writer(rank=1, world=2, timeout_seconds=0.1)
    writer.save(2, one_piece(1))
    with pytest.raises(CheckpointError, match=r"rank 0 did not commit it within 0.2 s"):
        writer.wait()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_launch_that_fails_does_not_wait_long_for_ranks_that_may_be_gone(open_writer, monkeypatch, caplog, rank):
    monkeypatch.setattr("framework.checkpoint.commit._PATIENCE_AFTER_FAILURE_SECONDS", 0.3)

    def save_and_fail() -> None:
        with open_writer(rank=rank, world=2) as writer:
            writer.save(2, one_piece(rank))
            time.sleep(0.1)
            raise RuntimeError("peer gone")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="peer gone"):
        save_and_fail()
    assert time.monotonic() - began < 10  # not the 600 s of the timeout
    assert "within 0.3 s after this launch began to fail" in caplog.text


def test_a_failing_rank_ends_the_save_at_once_everywhere(folder, state, save, open_writer, pieces_of):
    save(state, 1)

    def fail(point: str) -> None:
        if point.startswith("fsync"):
            raise OSError(28, "No space left on device", "/scratch/x")

    writers = [open_writer(rank=0, world=2), open_writer(rank=1, world=2, at=fail)]
    began = time.monotonic()
    for rank, writer in enumerate(writers):
        writer.save(2, one_piece(rank))
    with pytest.raises(CheckpointError, match=r"rank 1 failed: cannot write checkpoint 2 at /scratch/x: No space left"):
        writers[0].wait()
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint 2 at /scratch/x: No space left"):
        writers[1].wait()
    assert time.monotonic() - began < 10  # not the 600 s of the timeout
    assert list_checkpoints(folder) == [1]


def test_after_a_failure_the_same_images_can_be_saved_again(folder, open_writer):
    """The rollback after a failed save: the second attempt must not mix with what is left of the first."""
    broken = True

    def fail(point: str) -> None:
        if point == "folder" and broken:
            raise OSError(5, "Input/output error")

    first, second = open_writer(rank=0, world=2, at=fail), open_writer(rank=1, world=2)
    for _ in range(3):
        first.save(2, one_piece(0))
        second.save(2, one_piece(1))
        with pytest.raises(CheckpointError, match="Input/output error"):
            first.wait()
        with pytest.raises(CheckpointError, match="rank 0 gave it up"):
            second.wait()
    broken = False
    first.save(2, one_piece(0))
    second.save(2, one_piece(1))
    assert first.wait().images_seen == second.wait().images_seen == 2
    assert torch.equal(newest_valid(folder)[0].full("generator/weight/w"), torch.ones(8))
    # At most the newest failure's mark remains, for a rank that has not read it yet.
    assert len([name for name in os.listdir(folder) if name.endswith(".tmp")]) <= 1


def test_a_rank_whose_folder_is_cleared_under_its_hands_learns_why(folder, open_writer, monkeypatch):
    replace, first_time = os.replace, iter([True])

    def replace_once_cleared(source, target):
        if Path(target).name == part_file(1) and next(first_time, False):
            while Path(source).exists():
                time.sleep(0.005)
        replace(source, target)

    def fail_once_written(point: str) -> None:
        while not list(folder.glob(f".2-*/.{part_file(1)}.partial")):
            time.sleep(0.005)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.replace", replace_once_cleared)
    second = open_writer(rank=1, world=2)
    second.save(2, one_piece(1))
    first = open_writer(rank=0, world=2, at=lambda point: fail_once_written(point) if point == "folder" else None)
    first.save(2, one_piece(0))
    with pytest.raises(CheckpointError, match="Input/output error"):
        first.wait()
    with pytest.raises(CheckpointError, match="rank 0 gave it up"):
        second.wait()


def test_a_slow_rank_is_waited_for(folder, open_writer):
    first = open_writer(rank=0, world=2, timeout_seconds=30)
    first.save(2, one_piece(0))
    time.sleep(0.4)
    assert list_checkpoints(folder) == []
    second = open_writer(rank=1, world=2)
    second.save(2, one_piece(1))
    assert first.wait().images_seen == second.wait().images_seen == 2


def test_files_that_become_visible_late_are_waited_for(folder, open_writer):
    """A network file system may show a part before the file it speaks of, and half of a file before the rest."""
    hidden, shown = threading.Event(), threading.Event()

    def hide(point: str) -> None:
        if point == "part":
            path = next(folder.glob(".2-*.tmp")) / "state-00002-of-00002.safetensors"
            whole = path.read_bytes()
            path.write_bytes(whole[:50])
            hidden.set()
            assert shown.wait(30)
            path.write_bytes(whole)

    first, second = open_writer(rank=0, world=2), open_writer(rank=1, world=2, at=hide)
    second.save(2, one_piece(1))
    assert hidden.wait(30)
    first.save(2, one_piece(0))
    time.sleep(0.2)
    assert list_checkpoints(folder) == []
    shown.set()
    assert first.wait().images_seen == second.wait().images_seen == 2
    newest_valid(folder)[0].verify("hash")


def test_half_a_part_is_not_taken_for_a_part(folder, open_writer):
    first = open_writer(rank=0, world=2, timeout_seconds=0.3)
    first.save(2, one_piece(0))
    while not list(folder.glob(".2-*.tmp")):
        time.sleep(0.01)
    (next(folder.glob(".2-*.tmp")) / part_file(1)).write_text('{"format": 1, "fil')
    with pytest.raises(CheckpointError, match="rank 1 "):
        first.wait()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"start": 5, "size": 3}, r"elements \[4, 5\) of tensor generator/weight/w are missing"),
        ({"start": 3, "size": 5}, r"elements \[3, 4\) of tensor generator/weight/w are stored twice"),
        ({"start": 4, "size": 3}, r"elements \[7, 8\) of tensor generator/weight/w are missing"),
        ({"start": 0, "size": 4}, r"elements \[0, 4\) of tensor generator/weight/w are stored twice"),
        ({"start": 4, "size": 4, "shape": (2, 4)}, r"rank 1 has generator/weight/w as F32 \(2, 4\), other ranks as"),
        ({"start": 0, "size": 0, "shape": (0,)}, r"rank 1 has generator/weight/w as F32 \(0,\)"),
        ({"start": 0, "key": "generator/weight/v"}, r"elements \[4, 8\) of tensor generator/weight/w are missing"),
    ],
)
def test_pieces_must_cover_every_tensor_once(folder, save_together, second, message):
    errors = save_together(2, 2, lambda rank: one_piece(rank, **(second if rank else {})))
    with pytest.raises(CheckpointError, match=message):
        raise errors[0]
    assert "gave it up" in str(errors[1])
    assert list_checkpoints(folder) == []


def test_ranks_of_different_worlds_or_clocks_do_not_mix(folder, open_writer):
    first = open_writer(rank=0, world=2)
    second = open_writer(rank=1, world=3, timeout_seconds=5)
    first.save(2, one_piece(0))
    second.save(2, one_piece(1))
    with pytest.raises(CheckpointError, match="rank 1 saved images 2 as one of 3 ranks"):
        first.wait()
    with pytest.raises(CheckpointError, match="gave it up"):
        second.wait()


def test_one_rank_cannot_yield_a_piece_twice(open_writer):
    with pytest.raises(ValueError, match="generator/weight/w@0 twice"):
        open_writer().save(1, one_piece(0) + one_piece(0))


def test_a_new_launch_sweeps_what_others_left_and_keeps_its_own(folder, state, save, open_writer):
    save(state, 1)
    for name in (".2-old-1.tmp", ".2-launch-1.tmp", ".3-launch-old-2.tmp", ".1-x.deleted"):
        (folder / name).mkdir()
        (folder / name / "state-00001-of-00001.safetensors").write_text("x")
    open_writer(rank=1, world=2)
    assert len(os.listdir(folder)) == 5  # only rank 0 sweeps
    open_writer()
    assert sorted(os.listdir(folder)) == [".2-launch-1.tmp", "1"]


def test_many_ranks_many_saves(folder, state, pieces_of, open_writer, assert_holds):
    """Eight ranks, five saves without a pause: every rank sees every commit."""
    world, seen = 8, {}

    def train(rank: int) -> None:
        writer = open_writer(rank=rank, world=world, token="busy")
        for step in range(1, 6):
            live = {key: tensor + step if tensor.is_floating_point() else tensor for key, tensor in state.items()}
            writer.save(step, pieces_of(live, rank=rank, world=world, sharded=True))
        writer.close()
        seen[rank] = writer.wait().images_seen

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == dict.fromkeys(range(world), 5)
    assert sorted(os.listdir(folder)) == ["1", "2", "3", "4", "5"]
    live = {key: tensor + 4 if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    assert_holds(newest_valid(folder, before=5)[0], live)
