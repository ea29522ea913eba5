"""The background save: a true snapshot, one at a time, and no error that vanishes."""

import logging
import threading
import time

import pytest
import torch

from framework.checkpoint import Checkpoint, CheckpointError, TensorSlice, list_checkpoints
from framework.checkpoint.snapshot import Staging


class Gate:
    """Holds the background thread at one point of a save until it is opened."""

    def __init__(self, point: str) -> None:
        self.point, self.reached, self.open = point, threading.Event(), threading.Event()

    def __call__(self, point: str) -> None:
        if point.startswith(self.point):
            self.reached.set()
            assert self.open.wait(30)


def test_weights_changed_after_save_returns_do_not_enter_the_file(folder, state, open_writer, pieces_of, assert_holds):
    gate = Gate("folder")
    writer = open_writer(at=gate)
    live = {key: tensor.clone() for key, tensor in state.items()}
    record = {"clock": {"images": 1}}
    writer.save(1, pieces_of(live), record=record)
    assert gate.reached.wait(30)
    for tensor in live.values():
        tensor.zero_()
    record["clock"]["images"] = 2
    gate.open.set()
    writer.close()
    assert_holds(Checkpoint.open(folder / "1"), state)
    assert Checkpoint.open(folder / "1").record == {"clock": {"images": 1}}


def test_save_returns_before_anything_is_written(folder, state, open_writer, pieces_of):
    gate = Gate("folder")
    writer = open_writer(at=gate)
    stall_seconds = writer.save(1, pieces_of(state))
    assert 0 < stall_seconds < 5
    assert list_checkpoints(folder) == []
    gate.open.set()
    saved = writer.wait()
    assert (saved.images_seen, saved.path) == (1, folder / "1")
    assert saved.num_bytes == sum(tensor.nbytes for tensor in state.values())
    assert list_checkpoints(folder) == [1]


def test_a_second_save_waits_for_the_first(folder, open_writer):
    gate = Gate("fsync")
    writer = open_writer(at=gate)
    ones, twos = torch.ones(5), torch.full((5,), 2.0)
    writer.save(1, [TensorSlice(key="generator/weight/w", start=0, values=ones, shape=(5,))])
    assert gate.reached.wait(30)
    threading.Timer(0.3, gate.open.set).start()
    stall_seconds = writer.save(2, [TensorSlice(key="generator/weight/w", start=0, values=twos, shape=(5,))])
    assert stall_seconds >= 0.25
    assert 1 in list_checkpoints(folder)
    writer.close()
    # The second snapshot reused the first one's memory; neither may show through the other.
    assert torch.equal(Checkpoint.open(folder / "1").full("generator/weight/w"), ones)
    assert torch.equal(Checkpoint.open(folder / "2").full("generator/weight/w"), twos)


@pytest.mark.parametrize("point", ["folder", "write state", "fsync model", "document", "manifest"])
def test_an_error_of_the_thread_is_raised_by_the_next_save(folder, state, open_writer, pieces_of, save, caplog, point):
    save(state, 1)

    def fail(reached: str) -> None:
        if reached.startswith(point) and failing:
            raise MemoryError("no more")

    failing = True
    writer = open_writer(at=fail)
    writer.save(2, pieces_of(state), documents={"recipe.json": {}})
    writer._thread.join()
    assert [(entry.levelno, "no more" in entry.message) for entry in caplog.records] == [(logging.ERROR, True)]
    with pytest.raises(CheckpointError, match=r"writing checkpoint 2 to .* failed: MemoryError\('no more'\)"):
        writer.save(3, pieces_of(state))
    assert [path.name for path in folder.iterdir()] == ["1"]  # nothing begun, nothing left over
    failing = False
    writer.save(4, pieces_of(state))
    writer.close()
    assert list_checkpoints(folder) == [1, 4]


def test_wait_close_and_the_context_manager_raise_too(state, open_writer, pieces_of):
    def fail(point: str) -> None:
        if point == "folder":
            raise OSError(5, "Input/output error", "/mnt/broken")

    message = "cannot write checkpoint 1 at /mnt/broken: Input/output error; .*earlier checkpoints are untouched"
    for finish in ("wait", "close"):
        writer = open_writer(at=fail)
        writer.save(1, pieces_of(state))
        with pytest.raises(CheckpointError, match=message):
            getattr(writer, finish)()
        assert writer.wait() is None  # raised once
    writer = open_writer(at=fail)
    with pytest.raises(CheckpointError, match=message), writer:
        writer.save(1, pieces_of(state))


def test_a_closed_writer_refuses(open_writer):
    writer = open_writer()
    writer.close()
    writer.close()
    with pytest.raises(CheckpointError, match="closed"):
        writer.save(1, [])


def test_arguments_that_cannot_work_are_refused(open_writer):
    with pytest.raises(ValueError, match="token"):
        open_writer(token="a/b")
    with pytest.raises(ValueError, match="rank 2"):
        open_writer(rank=2, world=2)
    with pytest.raises(ValueError, match="images=-1"):
        open_writer().save(-1, [])


def test_a_folder_that_cannot_be_made_is_named(tmp_path, open_writer):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot prepare the checkpoint folder at .*file"):
        open_writer(folder=tmp_path / "file" / "checkpoints")


def test_snapshot_memory_is_reused():
    staging = Staging()
    tensors = [torch.randn(n, dtype=d) for n, d in ((3, torch.float64), (1, torch.bfloat16), (1000, torch.float32))]

    def snapshot() -> list[torch.Tensor]:
        staging.begin()
        copies = [staging.copy(tensor) for tensor in tensors]
        staging.finish()
        return copies

    first = snapshot()
    assert all(torch.equal(copy, tensor) for copy, tensor in zip(first, tensors, strict=True))
    addresses = [copy.data_ptr() for copy in first]
    assert [copy.data_ptr() for copy in snapshot()] == addresses
    assert all(address % 64 == 0 for address in addresses)


def test_tensors_larger_than_a_chunk(monkeypatch, folder, open_writer, assert_holds, pieces_of):
    monkeypatch.setattr("framework.checkpoint.snapshot._CHUNK_BYTES", 256)
    monkeypatch.setattr("framework.checkpoint.tensorfile._CHUNK_BYTES", 64)
    sizes = (10, 60, 64, 65, 1, 300, 2)
    state = {f"generator/weight/{i}": torch.randn(n) for i, n in enumerate(sizes)}
    writer = open_writer()
    for images in (1, 2):
        writer.save(images, pieces_of(state))
    writer.close()
    checkpoint = Checkpoint.open(folder / "2")
    assert_holds(checkpoint, state)
    wide = torch.zeros(300, dtype=torch.float64)
    checkpoint.read("generator/weight/5", 0, 300, wide)  # converted through the small buffer, several times
    assert torch.equal(wide.float(), state["generator/weight/5"])


def test_pieces_are_consumed_one_by_one(folder, open_writer):
    """An engine may gather a tensor when it is asked for it, into one buffer used for all."""
    shared = torch.zeros(4)

    def gathered():
        for index in range(3):
            shared.fill_(index)
            yield TensorSlice(key=f"generator/weight/{index}", start=0, values=shared, shape=(4,))

    writer = open_writer()
    writer.save(1, gathered())
    writer.close()
    checkpoint = Checkpoint.open(folder / "1")
    assert [checkpoint.full(f"generator/weight/{index}")[0].item() for index in range(3)] == [0.0, 1.0, 2.0]


def test_leaving_the_interpreter_finishes_the_save(tmp_path):
    import os
    import subprocess
    import sys

    program = (
        "import sys, time, torch; from pathlib import Path; from framework.checkpoint import *\n"
        "w = Writer(Path(sys.argv[1]), rank=0, world=1, token='t', retention=Retention(),"
        " at=lambda p: time.sleep(0.1) if p == 'folder' else None)\n"
        "w.save(7, [TensorSlice(key='generator/weight/w', start=0, values=torch.ones(3), shape=(3,))])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True, timeout=120)
    assert list_checkpoints(tmp_path) == [7]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_on_a_device(folder, state, open_writer, pieces_of, assert_holds):
    live = {key: tensor.cuda() for key, tensor in state.items()}
    writer = open_writer()
    writer.save(1, pieces_of(live))
    for tensor in live.values():
        tensor.zero_()
    began = time.monotonic()
    writer.close()
    assert time.monotonic() - began < 30
    checkpoint = Checkpoint.open(folder / "1")
    assert_holds(checkpoint, state)
    for tensor_slice in pieces_of(live):
        checkpoint.fill(tensor_slice)
    assert all(torch.equal(live[key].cpu(), tensor) for key, tensor in state.items() if live[key].is_contiguous())
