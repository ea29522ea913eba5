import contextlib
import http.client
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.data import fetch as fetching
from framework.data.cache import ShardCache
from framework.data.errors import DataError, ShardError
from framework.data.fetch import FetchOptions, fetch_bytes
from framework.data.stream import Stream, open_stream
from tests.unit.data.stream_helpers import CLASSES, FaultyServer, make_set, picture, serve

SIZES = (20, 17, 23, 20)
QUICK = FetchOptions(stall_seconds=0.4, deadline_seconds=5, retries=2, backoff_seconds=0.02)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    make_set(root / "a", sizes=SIZES)
    make_set(root / "foreign", sizes=SIZES, manifest=False)
    return root


@pytest.fixture
def server(root: Path) -> Iterator[FaultyServer]:
    with serve(root) as server:
        yield server


def opened(location: str, cache: Path, **kwargs: Any) -> Stream:
    settings = {"resolution": 32, "classes": CLASSES, "seed": 3, "window": 25, "worker_kind": "thread"}
    return open_stream(location, **settings | {"cache_folder": cache, "fetch": QUICK} | kwargs)


def keys(stream: Stream, count: int = 10, start: int = 0, **kwargs: Any) -> list[str]:
    with stream.batches(start, batch_size=12, **kwargs) as batches:
        return [key for batch in itertools.islice(batches, count) for key in batch.keys]


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.suffix in (".part", ".new", ".tmp")]


@pytest.mark.parametrize(
    ("behaviour", "path", "kind"),
    [
        ("ok", "a/", "thread"),
        ("ok", "a", "process"),
        ("plain", "a/", "thread"),
        ("flaky", "a/", "thread"),
        ("cut", "a/", "process"),
        ("cutplain", "a/", "thread"),
        ("ok", "a/train-{000000..000003}.tar", "thread"),
        ("flaky", "foreign/train-{000000..000003}.tar", "thread"),
        ("pipe", "a/train-{000000..000003}.tar", "process"),
    ],
)
def test_the_order_is_that_of_local_shards(
    root: Path, server: FaultyServer, tmp_path: Path, behaviour: str, path: str, kind: str
) -> None:
    location = f"pipe:cat {root}/{path}" if behaviour == "pipe" else server.url(behaviour, path)
    local = open_stream(root / "a", resolution=32, classes=CLASSES, seed=3, window=25, worker_kind="thread")
    stream = opened(
        location, tmp_path / "cache", worker_kind=kind, fetch=FetchOptions(retries=12, backoff_seconds=0.01)
    )
    assert stream.fingerprint == local.fingerprint or behaviour == "pipe" or "foreign" in path
    with stream.batches(31, batch_size=12) as remote, local.batches(31, batch_size=12) as here:
        for ours, theirs in zip(itertools.islice(remote, 8), here, strict=False):
            assert ours.keys == theirs.keys
            assert ours.images.equal(theirs.images)
            assert ours.labels.equal(theirs.labels)
    assert leftovers(tmp_path) == []
    assert len(list((tmp_path / "cache").glob("*.tar"))) >= 3


def test_an_interrupted_download_goes_on_where_it_stopped(root: Path, server: FaultyServer, tmp_path: Path) -> None:
    stream = opened(server.url("cut", "a/"), tmp_path, fetch=FetchOptions(retries=12, backoff_seconds=0.01))
    keys(stream)
    ranges = [asked for path, asked in server.requests if path.endswith("train-000000.tar")]
    assert ranges[0] is None
    starts = [int(re.fullmatch(r"bytes=(\d+)-", asked or "")[1]) for asked in ranges[1:]]  # type: ignore[index]
    assert starts == sorted(set(starts))
    assert starts[0] > 0
    total = sum(path.stat().st_size for path in (root / "a").glob("*.tar"))
    assert server.sent_bytes < 1.1 * total, "nothing was sent twice"


def test_a_second_start_fetches_nothing(server: FaultyServer, tmp_path: Path) -> None:
    for path in ("a/", "foreign/train-{000000..000003}.tar"):
        first = keys(opened(server.url("ok", path), tmp_path))
        server.requests.clear()
        assert keys(opened(server.url("ok", path), tmp_path)) == first
        assert server.fetched() == []


def test_resuming_fetches_only_what_is_near(tmp_path: Path) -> None:
    make_set(tmp_path / "served", sizes=(10,) * 20)
    with serve(tmp_path / "served") as server:
        stream = opened(server.url("ok"), tmp_path / "cache", window=20, prefetch_batches=0)
        keys(stream, 1, start=3 * 200 + 100)
        near = {stream.manifest.shards[shard].name for shard in stream.order.shards_near(700)}
        assert {path.rpartition("/")[2] for path in server.fetched()} <= near
        assert len(near) <= 6


@pytest.mark.parametrize(
    ("behaviour", "text", "kind"),
    [
        ("gone", "HTTP status 404", "thread"),
        ("denied", "HTTP status 403", "process"),
        ("broken", "after 3 tries; the last one: HTTP status 503", "thread"),
        ("stall", "after 3 tries; the last one: TimeoutError", "thread"),
        ("silent", "after 3 tries; the last one: (TimeoutError|URLError)", "process"),
        ("drip", "slower than the deadline of 1 s", "thread"),
        ("wrong", "after 3 tries; .*SHA-256 differs", "process"),
        ("long", "is longer than the manifest's|got .* bytes, the manifest says", "thread"),
    ],
)
def test_a_server_that_fails_is_an_error_in_bounded_time(
    root: Path, server: FaultyServer, tmp_path: Path, behaviour: str, text: str, kind: str
) -> None:
    stream = opened(
        server.url("ok", "a/"),
        tmp_path,
        worker_kind=kind,
        workers=1,
        fetch=FetchOptions(stall_seconds=0.25, deadline_seconds=1, retries=2, backoff_seconds=0.02),
    )
    bad = server.url(behaviour, "a/")
    source = stream._plan.source
    object.__setattr__(source, "addresses", tuple(bad + address.rpartition("/")[2] for address in source.addresses))
    begun = time.monotonic()
    with pytest.raises(ShardError, match=rf"http://[^ ]*/{behaviour}/a/train-00000\d\.tar: .*({text})"):
        keys(stream, 1)
    assert time.monotonic() - begun < 12
    assert leftovers(tmp_path) == []
    if behaviour in ("gone", "denied"):
        asked = max(server.seen[path] for path in server.fetched())
        assert asked <= 4, "the reader and the prefetchers ask once each, nobody tries again"


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ("gone", "manifest.json: not there; a folder needs manifest.json"),
        ("denied", "HTTP status 403"),
        ("broken", "after 3 tries"),
        ("silent", "after 3 tries"),
    ],
)
def test_a_folder_that_cannot_be_opened_says_so(
    server: FaultyServer, tmp_path: Path, behaviour: str, text: str
) -> None:
    with pytest.raises(DataError, match=text):
        opened(server.url(behaviour, "a/"), tmp_path)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("head -c 1000 {path}; echo because >&2; exit 3", "command ended with status 3: because"),
        ("sleep 60", "no byte for 0.4 s"),
        ("cat {path} & sleep 60", "no byte for 0.4 s"),
        ("cat {path}; exec >&-; sleep 60", "did not end within 0.4 s"),
        ("true", "damaged tar|holds no samples"),
        ("head -c 20000 {path}", "damaged tar"),
    ],
)
def test_a_command_that_fails_is_an_error_in_bounded_time(root: Path, tmp_path: Path, command: str, text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ShardError, match=f"(?s){text}"):
        opened("pipe:" + command.format(path=root / "a" / "train-000000.tar"), tmp_path)
    assert time.monotonic() - begun < 6
    assert leftovers(tmp_path) == []
    asleep = subprocess.run(["pgrep", "-P", str(os.getpid()), "sleep"], capture_output=True, text=True, check=False)
    assert asleep.stdout == ""


def test_a_command_whose_output_changes_is_an_error(root: Path, tmp_path: Path) -> None:
    shard = tmp_path / "x.tar"
    shard.write_bytes((root / "a" / "train-000000.tar").read_bytes())
    stream = opened(f"pipe:cat {shard}", tmp_path / "cache")
    for path in (tmp_path / "cache").glob("*.tar"):
        path.unlink()
    shard.write_bytes((root / "a" / "train-000003.tar").read_bytes())
    with pytest.raises(ShardError, match=r"pipe:\*\*\*x\.tar: not fetched after 3 tries; .*(SHA-256 differs|got)"):
        keys(stream, 1)


def test_equal_base_names_do_not_collide(tmp_path: Path) -> None:
    make_set(tmp_path / "served" / "a", sizes=(20,))
    make_set(tmp_path / "served" / "b", sizes=(20,), first=100)
    with serve(tmp_path / "served") as server:
        for _ in range(2):
            for name, first in (("a", 0), ("b", 100)):
                stream = opened(server.url("ok", f"{name}/"), tmp_path / "cache")
                assert sorted(keys(stream, 1, stop=20) + keys(stream, 1, start=12, stop=20)) == [
                    f"{n:09d}" for n in range(first, first + 20)
                ]
    two = f"{tmp_path}/served/{{a,b}}/train-000000.tar"
    assert opened(two, tmp_path / "cache").count == 40


def test_a_cache_that_would_thrash_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raise cache_bytes or lower window"):
        opened(server.url("ok", "a/"), tmp_path, cache_bytes=100_000)


def test_four_processes_share_a_bounded_cache(tmp_path: Path) -> None:
    make_set(tmp_path / "served", sizes=(10,) * 16)
    size = max(path.stat().st_size for path in (tmp_path / "served").glob("*.tar"))
    bound = 11 * size
    cache = tmp_path / "cache"
    with serve(tmp_path / "served") as server:
        code = """
import sys
from pathlib import Path
import numpy as np
from framework.data.fetch import FetchOptions
from framework.data.fields import fields_of_images
from framework.data.plan import rank_positions
from framework.data.process import ReadPlan
from framework.data.samples import ReadOptions, SampleReader
from framework.data.sources import open_source
url, cache, bound, rank = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fetch = FetchOptions(deadline_seconds=30)
source = open_source(url, cache=None, cache_folder=Path(cache), options=fetch)
how = dict(seed=0, flip=False, on_bad_sample="error", max_skipped=0)
options = ReadOptions(fields=fields_of_images(resolution=32, channels=3, classes=5), **how)
plan = ReadPlan(source=source, options=options, window=40, lanes=1, verify="size", cache_folder=cache,
                cache_bytes=bound, fetch=fetch)
order = plan.make_order()
reader = SampleReader(plan.make_shards(order, lambda: None), order, options)
out = {name: np.empty(row.shape, row.dtype) for name, row in options.rows.items()}
for start in range(0, 320, 16):
    for p in rank_positions(start, batch_size=16, rank=rank, world=4)[0]:
        print(reader.load(p, out).key)
"""
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", code, server.url("slow"), str(cache), str(bound), str(rank)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(4)
        ]
        peak = 0
        while any(rank.poll() is None for rank in ranks):
            sizes = []
            for path in cache.glob("*"):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue
            peak = max(peak, sum(sizes))
            time.sleep(0.01)
        found = [rank.communicate()[0].split() for rank in ranks]
        fetches = len(server.fetched())
    assert [len(part) for part in found] == [80] * 4
    assert sorted(key for part in found for key in part) == sorted(2 * [f"{n:09d}" for n in range(160)])
    assert size < peak <= bound
    assert 16 < fetches < 4 * 2 * 16, "fewer than if every process fetched for itself, although they drift apart"
    assert leftovers(cache) == []


def test_reservations_of_the_dead_are_freed(tmp_path: Path, server: FaultyServer, root: Path) -> None:
    total = sum(path.stat().st_size for path in (root / "a").glob("*.tar"))
    for number in range(6):
        with open(tmp_path / f"{number:032d}.part", "wb") as file:
            file.truncate(total)
    begun = time.monotonic()
    keys(opened(server.url("ok", "a/"), tmp_path, cache_bytes=total + 20_000))
    assert time.monotonic() - begun < 3
    assert leftovers(tmp_path) == []


def test_the_least_recently_used_shards_go_first(tmp_path: Path, server: FaultyServer, root: Path) -> None:
    stream = opened(server.url("ok", "a/"), tmp_path)
    entries = {shard.name: shard for shard in stream.manifest.shards}
    cache = ShardCache(tmp_path, max_bytes=2 * 100_000, options=QUICK)

    def ensure(name: str) -> Path:
        time.sleep(0.02)
        entry = entries[f"train-{name}.tar"]
        return cache.ensure(server.url("ok", f"a/{entry.name}"), num_bytes=entry.bytes, sha256=entry.sha256)

    first, second = ensure("000000"), ensure("000001")
    assert ensure("000000") == first
    ensure("000002")
    assert first.exists()
    assert not second.exists()
    with pytest.raises(DataError, match="no room for 2000 bytes in 1000; raise cache_bytes"):
        ShardCache(tmp_path, max_bytes=1000, options=QUICK).ensure("x", num_bytes=2000, sha256="a" * 64)


def test_closing_ends_a_download_at_once(server: FaultyServer, tmp_path: Path) -> None:
    stream = opened(server.url("ok", "a/"), tmp_path, fetch=FetchOptions(stall_seconds=0.3, backoff_seconds=60))
    source = stream._plan.source
    object.__setattr__(source, "addresses", tuple(url.replace("/ok/", "/stall/") for url in source.addresses))
    batches = stream.batches(0, batch_size=12)
    batches._submit_ahead()
    time.sleep(0.5)
    begun = time.monotonic()
    batches.close()
    assert time.monotonic() - begun < 2
    assert leftovers(tmp_path) == []


def test_a_small_file_is_fetched_whole_or_not_at_all(server: FaultyServer, root: Path) -> None:
    content = (root / "a/manifest.json").read_bytes()
    assert fetch_bytes(server.url("flaky", "a/manifest.json"), options=QUICK, most_bytes=1 << 20) == content
    with pytest.raises(DataError, match="must be positive"):
        FetchOptions(stall_seconds=0)


def test_pictures_come_out_right(server: FaultyServer, tmp_path: Path) -> None:
    with opened(server.url("ok", "foreign/train-{000000..000003}.tar"), tmp_path).batches(0, batch_size=80) as batches:
        batch = next(batches)
    for key, image in zip(batch.keys, batch.images, strict=True):
        assert (image.numpy().transpose(1, 2, 0) == picture(int(key))).all()


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), http.client.IncompleteRead(b"")])
def test_a_connection_that_was_cut_at_the_deadline_says_so_however_it_ends(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def cut(request: Any, *, stall_seconds: float, deadline: float) -> Iterator[Any]:
        time.sleep(max(0.0, deadline - time.monotonic()) + 0.01)
        raise error
        yield

    monkeypatch.setattr(fetching, "answered", cut)
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(ShardError, match=r"slower than the deadline of 0\.05 s"),
    ):
        fetching.fetch("http://127.0.0.1:1/a.tar", file, options=FetchOptions(deadline_seconds=0.05))
