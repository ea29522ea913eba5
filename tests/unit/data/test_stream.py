import contextlib
import gc
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import webdataset

from framework.data.errors import DataError, ShardError, WorkerError
from framework.data.manifest import save_resolutions
from framework.data.plan import flipped
from framework.data.samples import SampleReader
from framework.data.stream import Batch, Stream, open_stream
from tests.unit.data.stream_helpers import CLASSES, destroy_picture, make_set, picture

SIZES = (20, 17, 23, 20)
KINDS = [("thread", 0), ("thread", 1), ("thread", 3), ("process", 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("set"), sizes=SIZES)


def opened(location: Path | str, **kwargs: Any) -> Stream:
    return open_stream(
        location, **{"resolution": 32, "classes": CLASSES, "seed": 3, "window": 50, "worker_kind": "thread"} | kwargs
    )


def take(stream: Stream, count: int, start: int = 0, **kwargs: Any) -> list[Batch]:
    with stream.batches(start, **{"batch_size": 12} | kwargs) as batches:
        return list(itertools.islice(batches, count))


def digest(*groups: list[Batch]) -> str:
    """Of positions, keys, labels and pixels of several ranks' batches, in order of position."""
    rows = sorted(
        (position, key, int(label), image.numpy().tobytes())
        for batches in groups
        for batch in batches
        for position, key, label, image in zip(batch.positions, batch.keys, batch.labels, batch.images, strict=True)
    )
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def test_batches_hold_what_was_packed(folder: Path) -> None:
    stream = opened(folder, flip=True)
    mirrored = 0
    for batch in take(stream, 10, batch_size=16, micro_batches=3):
        assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (16, 3, 32, 32))
        assert batch.images.is_contiguous()
        assert (batch.labels.dtype, batch.micro_sizes, batch.skipped) == (torch.int64, [6, 5, 5], [])
        assert batch.wait_seconds >= 0
        for position, key, label, image in zip(batch.positions, batch.keys, batch.labels, batch.images, strict=True):
            expected = picture(int(key)).transpose(2, 0, 1)
            if flipped(3, position):
                expected, mirrored = expected[:, :, ::-1], mirrored + 1
            assert (image.numpy() == expected).all()
            assert int(label) == int(key) % CLASSES
    assert 60 < mirrored < 100


def test_every_epoch_holds_every_sample_once(folder: Path) -> None:
    keys = [key for batch in take(opened(folder), 12, batch_size=20) for key in batch.keys]
    epochs = [keys[at : at + 80] for at in (0, 80, 160)]
    assert all(sorted(epoch) == [f"{n:09d}" for n in range(80)] for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


@pytest.mark.parametrize(("kind", "workers"), KINDS)
def test_workers_do_not_change_the_batches(folder: Path, kind: str, workers: int) -> None:
    reference = take(opened(folder, flip=True, workers=0), 8, 37)
    assert digest(take(opened(folder, flip=True, worker_kind=kind, workers=workers), 8, 37)) == digest(reference)


@pytest.mark.parametrize("world", [2, 3, 4, 8])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_ranks_together_read_what_one_rank_reads(folder: Path, world: int, micro_batches: int) -> None:
    stream = opened(folder, flip=True)
    kwargs = {"batch_size": 17, "micro_batches": micro_batches}
    ranks = [take(stream, 6, 41, rank=rank, world=world, **kwargs) for rank in range(world)]
    assert digest(*ranks) == digest(take(stream, 6, 41, **kwargs))
    assert all(len(batch.images) for rank in ranks for batch in rank)


def test_resuming_is_the_uninterrupted_run(folder: Path) -> None:
    whole = take(opened(folder), 20)
    first = [take(opened(folder), 7, rank=rank, world=2) for rank in (0, 1)]
    rest = take(opened(folder), 13, start=7 * 12)
    assert digest(*first, rest) == digest(whole)
    finer = take(opened(folder), 26, start=7 * 12, batch_size=6)
    assert digest(*first, finer) == digest(whole)


def test_nothing_before_the_start_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    original = SampleReader.load

    def spy(self: SampleReader, position: int, *args: Any, **kwargs: Any) -> Any:
        loaded.append(position)
        return original(self, position, *args, **kwargs)

    monkeypatch.setattr(SampleReader, "load", spy)
    take(opened(folder, prefetch_batches=1), 1, start=1000)
    assert min(loaded) == 1000


def test_stop_cuts_the_last_batch(folder: Path) -> None:
    stream = opened(folder)
    with stream.batches(0, batch_size=30, stop=80) as batches:
        assert [len(batch.keys) for batch in batches] == [30, 30, 20]
    ranks = [list(stream.batches(79, batch_size=30, stop=80, rank=rank, world=2)) for rank in (0, 1)]
    assert [len(batch.images) for rank in ranks for batch in rank] == [1, 0]
    assert list(stream.batches(80, batch_size=30, stop=80)) == []


def test_channels_last_is_only_another_memory_format(folder: Path) -> None:
    a = take(opened(folder, flip=True), 3)
    b = take(opened(folder, flip=True, channels_last=True), 3)
    c = take(opened(folder, flip=True, channels_last=True, worker_kind="process"), 3)
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in b)
    assert [x.images.tolist() for x in a] == [x.images.tolist() for x in b] == [x.images.tolist() for x in c]


def test_a_batch_that_is_kept_keeps_its_pixels(folder: Path) -> None:
    stream = opened(folder)
    with stream.batches(0, batch_size=12) as batches:
        kept = [next(batches).images[3:5, 1] for _ in range(30)]
        copies = [image.clone() for image in kept]
        dropped = [next(batches).images.data_ptr() for _ in range(30)]
    assert all(torch.equal(*pair) for pair in zip(kept, copies, strict=True))
    assert len(set(dropped)) < 15, "memory of dropped batches is used again"
    del batches
    gc.collect()
    assert all(torch.equal(*pair) for pair in zip(kept, copies, strict=True))


def test_grey_colour_and_unlabelled(tmp_path: Path) -> None:
    grey = make_set(tmp_path / "grey", sizes=(9,), channels=1, classes=0)
    batch = take(open_stream(grey, resolution=32, channels=3), 1)[0]
    assert (batch.images[:, 0] == batch.images[:, 2]).all()
    assert batch.labels.tolist() == [0] * 12
    batch = take(open_stream(grey, resolution=32, channels=1), 1)[0]
    assert batch.images.shape == (12, 1, 32, 32)


def test_lower_resolution_of_the_same_pictures(folder: Path, tmp_path: Path) -> None:
    for side in (32, 8):
        make_set(tmp_path / f"r{side:03d}", sizes=(9, 9), side=side)
    save_resolutions({8: "r008", 32: "r032"}, tmp_path)
    by_side = {side: opened(tmp_path, resolution=side) for side in (8, 16, 32)}
    assert {side: stream.manifest.resolution for side, stream in by_side.items()} == {8: 8, 16: 32, 32: 32}
    keys = [[batch.keys for batch in take(stream, 3)] for stream in by_side.values()]
    assert keys[0] == keys[1] == keys[2]
    with pytest.raises(DataError, match="holds resolutions 8, 32, none fits 64"):
        opened(tmp_path, resolution=64)
    with pytest.raises(DataError, match="pictures are 32x32, not 64x64"):
        opened(folder, resolution=64)


def test_describe_is_json_and_names_the_data(folder: Path) -> None:
    stream = opened(folder)
    text = json.loads(json.dumps(stream.describe()))
    assert (text["count"], text["fingerprint"], text["num_shards"]) == (80, stream.fingerprint, 4)
    assert stream.class_names[1] == "class 1"


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"classes": 7}, "has 5 classes, 7 are asked for"),
        ({"workers": -1}, "must not be negative"),
        ({"worker_kind": "fork"}, "must be 'thread' or 'process'"),
        ({"lanes": 0}, "lanes 0"),
        ({"on_bad_sample": "ignore"}, "must be 'error' or 'skip'"),
        ({"verify": "md5"}, "must be 'size' or 'sha256'"),
        ({"channels": 2}, "channels is 2"),
    ],
)
def test_impossible_options_are_refused(folder: Path, kwargs: dict, text: str) -> None:
    with pytest.raises(DataError, match=text):
        opened(folder, **kwargs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="pinning works here")
def test_pinning_without_a_device_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="pin_memory needs a CUDA device"):
        opened(folder, pin_memory=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
def test_pinned_batches_hold_the_same_pixels(folder: Path, channels_last: bool) -> None:
    plain = take(opened(folder, channels_last=channels_last), 3)
    pinned = take(opened(folder, channels_last=channels_last, pin_memory=True), 3)
    assert all(batch.images.is_pinned() for batch in pinned)
    assert all(a.images.equal(b.images.to("cuda", non_blocking=True).cpu()) for a, b in zip(plain, pinned, strict=True))


def test_impossible_batches_and_places_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves some of 4 ranks without a sample"):
        opened(folder).batches(0, batch_size=3, world=4)
    with pytest.raises(DataError, match=r"holds neither manifest\.json nor \.tar shards"):
        opened(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        opened(tmp_path / "no-{000..002}.tar")
    with pytest.raises(DataError, match="s3:// is not supported"):
        opened("s3://bucket/x")


def test_shards_named_one_by_one_use_the_manifest_beside_them(folder: Path) -> None:
    some = opened(f"{folder}/train-{{000001..000002}}.tar")
    assert (some.count, some.manifest.name) == (40, "test")
    assert opened(f"{folder}/train-*.tar").fingerprint == opened(folder).fingerprint
    assert not list(folder.glob("*.survey.json"))


# ------------------------------------------------------------------------------------------------ other people's shards


def foreign(folder: Path) -> Path:
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "x-%03d.tar"), maxcount=15, verbose=0) as writer:
        for n in range(40):
            writer.write({"__key__": f"{n:04d}", "png": picture(n), "cls": n % CLASSES, "json": {"n": n}})
    return folder


def test_shards_of_the_stock_writer_are_indexed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = foreign(tmp_path / "a")
    caplog.set_level("INFO")
    for location in (folder, f"{folder}/x-{{000..002}}.tar", f"{folder}/*.tar"):
        stream = opened(location, cache_folder=tmp_path / "cache")
        assert (stream.count, stream.manifest.classes, stream.manifest.label_counts) == (40, CLASSES, (8,) * 5)
        batch = take(stream, 1, batch_size=40)[0]
        assert sorted(batch.keys) == [f"{n:04d}" for n in range(40)]
        for key, label, image in zip(batch.keys, batch.labels, batch.images, strict=True):
            assert (image.numpy().transpose(1, 2, 0) == picture(int(key))).all()
            assert int(label) == int(key) % CLASSES
    assert sum("to index it" in text for text in caplog.messages) == 3
    (folder / "x-001.tar").write_bytes((folder / "x-000.tar").read_bytes())
    assert opened(folder, cache_folder=tmp_path / "cache").count == 40 - 15 + 15
    assert sum("to index it" in text for text in caplog.messages) == 4, "only the replaced shard is read again"


def test_records_go_to_the_cache_where_the_folder_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = foreign(tmp_path / "a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    stream = opened(folder, cache_folder=tmp_path / "cache")
    assert len(take(stream, 3)) == 3
    assert {path.suffix for path in folder.iterdir()} == {".tar"}
    assert len(list((tmp_path / "cache" / "surveys").glob("*.idx"))) == 3


# It leaves the shards for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_plain_webdataset_reads_our_shards_to_the_same_pixels(folder: Path) -> None:
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    stock = {s["__key__"]: s for s in webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8")}
    ours = take(opened(folder), 1, batch_size=80)[0]
    assert sorted(stock) == sorted(ours.keys)
    for key, label, image in zip(ours.keys, ours.labels, ours.images, strict=True):
        assert (stock[key]["png"] == image.numpy().transpose(1, 2, 0)).all()
        assert stock[key]["cls"] == int(label)


# ------------------------------------------------------------------------------------------------------------ endings


def stream_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("stream-", "prefetch"))]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_leaving_early_stops_the_workers(folder: Path, kind: str) -> None:
    before = psutil.Process().children()
    batches = opened(folder, worker_kind=kind).batches(0, batch_size=12)
    next(batches)
    assert len(stream_threads()) == 2
    batches.close()
    batches.close()
    assert list(batches) == []
    for _ in opened(folder, worker_kind=kind).batches(0, batch_size=12):
        break
    gc.collect()
    with contextlib.suppress(RuntimeError), opened(folder, worker_kind=kind).batches(0, batch_size=12) as it:
        next(it)
        raise RuntimeError("the consumer's own")
    assert stream_threads() == []
    assert psutil.Process().children() == before


@pytest.mark.parametrize(("kind", "workers"), KINDS)
def test_an_error_names_shard_and_key_and_comes_soon(tmp_path: Path, kind: str, workers: int) -> None:
    folder = make_set(tmp_path / "a", sizes=SIZES)
    key = destroy_picture(folder / "train-000002.tar")
    stream = opened(folder, worker_kind=kind, workers=workers)
    batches = stream.batches(0, batch_size=12)
    good: list[Batch] = []
    begun = time.monotonic()

    def consume() -> None:
        nonlocal begun
        for batch in batches:
            good.append(batch)
            begun = time.monotonic()

    with pytest.raises(ShardError, match=rf"train-000002\.tar, sample {key}: \.png is unusable") as caught:
        consume()
    assert caught.value.key == key
    assert time.monotonic() - begun < 1.0
    reference = take(stream, len(good))
    assert digest(good) == digest(reference), "what came before the error is whole and in order"
    assert list(batches) == []
    assert stream_threads() == []


def test_a_scheduler_that_signals_every_process_of_a_job_does_not_end_the_workers(folder: Path) -> None:
    """The trainer makes its step and its checkpoint first, and then ends them itself."""
    reference, others = take(opened(folder, workers=0), 10), psutil.Process().children()
    with opened(folder, worker_kind="process", workers=2).batches(0, batch_size=12) as batches:
        taken = [next(batches)]
        workers = [process for process in psutil.Process().children() if process not in others]
        assert len(workers) == 2
        for worker in workers:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                worker.send_signal(number)
        taken += [next(batches) for _ in range(9)]
    assert digest(taken) == digest(reference)
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_a_killed_worker_process_is_an_error(folder: Path) -> None:
    before = psutil.Process().children()
    with opened(folder, worker_kind="process", workers=2).batches(0, batch_size=12) as batches:
        next(batches)
        victim = next(child for child in psutil.Process().children() if child not in before)
        victim.send_signal(signal.SIGKILL)
        begun = time.monotonic()
        with pytest.raises(WorkerError, match=f"loading worker {victim.pid} was killed by SIGKILL"):
            list(itertools.islice(batches, 20))
        assert time.monotonic() - begun < 5
    assert psutil.Process().children() == before


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_silent_worker_is_an_error(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[psutil.Process] = []
    release = threading.Event()
    if kind == "thread":
        monkeypatch.setattr(os, "pread", lambda *args: release.wait(20) and b"")  # storage that does not answer
    before = psutil.Process().children()
    with opened(folder, worker_kind=kind, workers=1, timeout_seconds=1.0).batches(0, batch_size=12) as batches:
        if kind == "process":
            next(batches)
            stopped = [child for child in psutil.Process().children() if child not in before]
            for child in stopped:
                child.suspend()
        try:
            with pytest.raises(WorkerError, match="no sign of life from 1 loading workers for 1 s at position"):
                list(itertools.islice(batches, 20))
        finally:
            release.set()
    assert psutil.Process().children() == before


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_interpreter_ends_in_the_middle_of_a_stream(folder: Path, kind: str) -> None:
    code = f"""
from framework.data.stream import open_stream
batches = open_stream({str(folder)!r}, resolution=32, worker_kind={kind!r}).batches(0, batch_size=12)
next(batches); print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_the_worker_process_ends_with_its_trainer_and_imports_little(folder: Path) -> None:
    code = f"""
import os, signal
from framework.data.stream import open_stream
batches = open_stream({str(folder)!r}, resolution=32, worker_kind="process", workers=1).batches(0, batch_size=12)
next(batches)
import psutil
child = psutil.Process().children()[0]
maps = open(f"/proc/{{child.pid}}/maps").read()
print(child.pid, "libtorch" in maps, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid, torch_is_there = done.stdout.split()
    assert torch_is_there == "False"
    end = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the worker outlived the trainer"
        time.sleep(0.05)


def test_nothing_is_pickled(folder: Path) -> None:
    found: list[str] = []
    watching = True

    def hook(event: str, args: tuple) -> None:
        if watching and event == "pickle.find_class":
            found.append(str(args))

    sys.addaudithook(hook)
    for kind in ("thread", "process"):
        take(opened(folder, worker_kind=kind), 3)
    watching = False
    assert found == []


def test_window_bounds_what_is_mixed(folder: Path) -> None:
    narrow = [int(key) // 20 for batch in take(opened(folder, window=5), 6, batch_size=5) for key in batch.keys]
    wide = take(opened(folder, window=0), 1, batch_size=12)[0]
    assert max(len(set(narrow[at : at + 5])) for at in range(0, 30, 5)) <= 3
    assert len({int(key) // 20 for key in wide.keys}) >= 3
    assert np.unique([batch.positions for batch in take(opened(folder, lanes=3), 4)]).tolist() == list(range(48))
