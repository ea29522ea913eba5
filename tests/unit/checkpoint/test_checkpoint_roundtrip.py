"""What is saved is read back to the bit, by us and by the safetensors library, under any partition."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from framework.checkpoint import Checkpoint, CheckpointError, TensorSlice, list_checkpoints, newest_valid, resolve
from framework.checkpoint.tensorfile import Stored, read_header, write_tensors


def test_every_kind_of_tensor_and_small_state_comes_back_to_the_bit(folder, state, save, assert_holds):
    save(state, 64)
    checkpoint = Checkpoint.open(folder / "64")
    checkpoint.verify("hash")
    assert_holds(checkpoint, state)
    assert (checkpoint.images_seen, checkpoint.world) == (64, 1)
    assert checkpoint.record == {"third": 1 / 3}
    assert checkpoint.document("recipe.json") == {"lr": 0.1}
    assert checkpoint.keys("generator/ema/") == ["generator/ema/stem.weight"]


def test_the_safetensors_library_reads_our_files(folder, state, save):
    save(state, 64)
    path = folder / "64"
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "recipe.json",
        "state-00001-of-00001.safetensors",
        "state.safetensors.index.json",
    ]
    ema = load_file(path / "model-00001-of-00001.safetensors")
    rest = load_file(path / "state-00001-of-00001.safetensors")
    assert sorted(ema) == ["generator/ema/stem.weight", "generator/ema_buffer/bn.running_var"]
    assert sorted(ema | rest) == sorted(state)
    for key, tensor in (ema | rest).items():
        assert tensor.dtype == state[key].dtype
        assert torch.equal(tensor, state[key])
    with safe_open(path / "model-00001-of-00001.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "checkpoint_format": "1", "images": "64"}


def test_we_read_the_headers_of_the_safetensors_library(tmp_path, state):
    path = tmp_path / "theirs.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata={"a": "b"})
    with path.open("rb") as file:
        entries, size = read_header(file)
    assert size == path.stat().st_size
    assert {key: (entry.dtype, torch.Size(entry.shape)) for key, entry in entries.items()} == {
        key: (tensor.dtype, tensor.shape) for key, tensor in state.items()
    }


def test_tensors_are_aligned_in_the_file(tmp_path):
    tensors = [
        Stored(key=str(i), shape=(3,), values=torch.zeros(3, dtype=d))
        for i, d in enumerate((torch.uint8, torch.float64, torch.bool, torch.float32, torch.bfloat16, torch.int64))
    ]
    write_tensors(tmp_path / "a", tensors, metadata={}, at=lambda point: None)
    with (tmp_path / "a").open("rb") as file:
        entries, _ = read_header(file)
    assert all(entry.offset_bytes % entry.dtype.itemsize == 0 for entry in entries.values())


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("sharded", [False, True])
def test_ranks_write_one_checkpoint(folder, state, save_together, pieces_of, assert_holds, world, sharded):
    errors = save_together(world, 96, lambda rank: pieces_of(state, rank=rank, world=world, sharded=sharded))
    assert errors == [None] * world
    checkpoint, rejected = newest_valid(folder)
    assert not rejected
    assert_holds(checkpoint, state)
    assert checkpoint.record == {"rank": 0}
    assert checkpoint.world == world
    assert sorted(os.listdir(folder)) == ["96"]
    names = os.listdir(folder / "96")
    assert f"state-00001-of-{world:05d}.safetensors" in names
    assert not [name for name in names if name.startswith("part")]
    if sharded:
        first = load_file(folder / "96" / f"state-00001-of-{world:05d}.safetensors")
        assert "generator/weight/stem.weight@0" in first
        assert first["generator/weight/scale"].shape == ()  # whole on one rank: under its plain key, in its shape


@pytest.mark.parametrize("readers", [1, 2, 3, 5])
def test_any_partition_reads_any_other(folder, state, save_together, pieces_of, readers):
    assert save_together(3, 8, lambda rank: pieces_of(state, rank=rank, world=3, sharded=True)) == [None] * 3
    checkpoint = Checkpoint.open(folder / "8")
    restored = {key: torch.zeros_like(tensor, memory_format=torch.contiguous_format) for key, tensor in state.items()}
    for rank in range(readers):
        for tensor_slice in pieces_of(restored, rank=rank, world=readers, sharded=True):
            checkpoint.fill(tensor_slice)
    assert all(torch.equal(restored[key], tensor) for key, tensor in state.items())


def test_strided_and_wider_destinations(folder, state, save):
    save(state, 64)
    checkpoint = Checkpoint.open(folder / "64")
    key = "generator/weight/stem.weight"
    wide = torch.zeros(20, dtype=torch.float64)
    checkpoint.read(key, 10, 20, wide[::2])
    assert torch.equal(wide[::2], state[key].reshape(-1)[10:20].double())
    assert not wide[1::2].any()
    shaped = torch.zeros(2, 5)
    checkpoint.read(key, 0, 10, shaped)
    assert torch.equal(shaped.reshape(-1), state[key].reshape(-1)[:10])
    parameter = torch.nn.Parameter(torch.zeros(63))
    checkpoint.read(key, 0, 63, parameter)
    assert torch.equal(parameter.data, state[key].reshape(-1))


def test_reads_that_cannot_be_meant_are_refused(folder, state, save):
    save(state, 64)
    checkpoint = Checkpoint.open(folder / "64")
    key = "generator/weight/stem.weight"
    with pytest.raises(CheckpointError, match=r"no tensor 'generator/weight/stem.wait'.*generator/weight/stem.weight"):
        checkpoint.full("generator/weight/stem.wait")
    with pytest.raises(CheckpointError, match=r"shape \(7, 3, 3\): no elements \[60, 64\)"):
        checkpoint.read(key, 60, 64, torch.zeros(4))
    with pytest.raises(CheckpointError, match=r"cannot become torch.bfloat16 without loss"):
        checkpoint.read(key, 0, 4, torch.zeros(4, dtype=torch.bfloat16))
    with pytest.raises(CheckpointError, match=r"cannot become torch.float32"):
        checkpoint.read("generator/buffer/bn.num_batches_tracked", 0, 1, torch.zeros(1))
    with pytest.raises(ValueError, match="as many elements"):
        checkpoint.read(key, 0, 4, torch.zeros(3))
    with pytest.raises(CheckpointError, match=r"has \(7, 9\): the recipe differs"):
        checkpoint.fill(TensorSlice(key=key, start=0, values=torch.zeros(63), shape=(7, 9)))
    with pytest.raises(CheckpointError, match=r"no document 'science.json'; it has: recipe.json"):
        checkpoint.document("science.json")


@pytest.mark.parametrize(
    ("tensor_slice", "message"),
    [
        (TensorSlice(key="a@1", start=0, values=torch.zeros(2), shape=(2,)), "'@'"),
        (TensorSlice(key="a", start=1, values=torch.zeros(2), shape=(2,)), "not an interval"),
        (TensorSlice(key="a", start=0, values=torch.zeros(2, 1), shape=(2,)), "not an interval"),
        (TensorSlice(key="a", start=0, values=torch.zeros(2, dtype=torch.complex64), shape=(2,)), "complex64"),
    ],
)
def test_pieces_that_cannot_be_stored_are_refused_at_once(open_writer, tensor_slice, message):
    with pytest.raises(ValueError, match=message):
        open_writer().save(1, [tensor_slice])


def test_states_that_json_would_change_are_refused_by_path(open_writer):
    writer = open_writer()
    for record, message in [
        ({"player": {"rates": [1.0, float("nan")]}}, r"record.player.rates\[1\]: nan"),
        ({"player": torch.zeros(1)}, r"record.player: tensor"),
        ({"player": {3: 1}}, r"record.player: key 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            writer.save(1, [], record=record)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        writer.save(1, [], documents={"manifest.json": {}})
    with pytest.raises(ValueError, match=re.escape("../x.json")):
        writer.save(1, [], documents={"../x.json": {}})


def test_floats_in_the_record_are_exact(folder, open_writer):
    values = [0.1, 1e-308, 5e-324, 1.7976931348623157e308, -0.0, 2**0.5]
    writer = open_writer()
    writer.save(0, [], record={"values": values, "count": 2**63 + 1, "none": None, "yes": True})
    writer.close()
    record = Checkpoint.open(folder / "0").record
    assert [value.hex() for value in record["values"]] == [value.hex() for value in values]
    assert record["count"] == 2**63 + 1
    assert record["none"] is None
    assert record["yes"] is True


def test_the_same_state_gives_the_same_bytes(folder, state, save, tmp_path):
    save(state, 64)
    other = tmp_path / "other"
    save(state, 64, folder=other, token="another")
    for path in (folder / "64").iterdir():
        assert path.read_bytes() == (other / "64" / path.name).read_bytes()


def test_a_read_touches_only_its_bytes(folder, open_writer):
    """16 MiB of tensors; a slice of 4 kB must not read (or hold) much more than itself."""
    big = torch.arange(4 << 20, dtype=torch.float32)
    writer = open_writer()
    writer.save(1, [TensorSlice(key="generator/weight/big", start=0, values=big, shape=(2048, 2048))])
    writer.close()
    checkpoint = Checkpoint.open(folder / "1")
    out = torch.empty(1000)
    checkpoint.read("generator/weight/big", 0, 1000, out)  # opens the file and reads its header

    def bytes_read() -> int:
        return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])

    before = bytes_read()
    overhead = bytes_read() - before
    before = bytes_read()
    checkpoint.read("generator/weight/big", 3_000_000, 3_001_000, out)
    spent = bytes_read() - before - overhead
    assert torch.equal(out, big[3_000_000:3_001_000])
    assert 4000 <= spent < 6000


def test_sampling_needs_the_ema_files_and_documents_only(folder, state, save, tmp_path):
    save(state, 64)
    published = tmp_path / "published"
    published.mkdir()
    checkpoint = Checkpoint.open(folder / "64")
    for name in ("manifest.json", *checkpoint.ema_files):
        (published / name).write_bytes((folder / "64" / name).read_bytes())
    assert sorted(checkpoint.ema_files) == [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "recipe.json",
    ]
    found = resolve(published, ema_only=True)
    assert torch.equal(found.full("generator/ema/stem.weight"), state["generator/ema/stem.weight"])
    with pytest.raises(CheckpointError, match=r"state-00001-of-00001.safetensors is missing"):
        resolve(published)


def test_resolve_accepts_a_run_its_checkpoints_and_a_checkpoint(folder, state, save):
    save(state, 64, 640, 128)
    assert list_checkpoints(folder) == [64, 128]
    assert resolve(folder.parent).images_seen == resolve(folder).images_seen == 128
    assert resolve(folder / "64").images_seen == 64
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve(folder / "65")
    (folder.parent / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        resolve(folder.parent / "empty")
    assert list_checkpoints(folder.parent / "absent") == []
    assert newest_valid(folder.parent / "absent") == (None, [])


def test_the_manifest_is_readable_json(folder, state, save):
    save(state, 64)
    content = json.loads((folder / "64" / "manifest.json").read_text())
    assert content["format"] == 1
    assert content["tensors"]["generator/weight/stem.weight"] == {
        "shape": [7, 3, 3],
        "dtype": "F32",
        "pieces": [[0, 63, "state-00001-of-00001.safetensors", "generator/weight/stem.weight"]],
    }
