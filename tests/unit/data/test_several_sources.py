"""Sources without files, and several sources on one clock: functions of (seed, position), on any number of ranks."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from framework.data.batches import Batch
from framework.data.computed import ComputedStream, GridOfGaussians, RingOfGaussians
from framework.data.errors import DataError, ShardError
from framework.data.fields import Image
from framework.data.joined import JoinedStream, SampleStream, seed_of
from framework.data.plan import _ROW, hash_integers, row_draws
from framework.data.stream import open_stream
from tests.unit.data.stream_helpers import destroy_picture, make_set


def take(stream: SampleStream, count: int, start: int = 0, **share: Any) -> list[Batch]:
    with stream.batches(start, **{"batch_size": 12} | share) as batches:
        return list(itertools.islice(batches, count))


def rows(batches: list[Batch]) -> dict[int, list[Any]]:
    """Key and fields of each position."""
    return {
        position: [batch.keys[row], *(values[row].tolist() for values in batch.fields.values())]
        for batch in batches
        for row, position in enumerate(batch.positions)
    }


def test_draws_of_rows_are_those_of_the_hash() -> None:
    draws = row_draws(7, [0, 5, 1 << 40], 3)
    expected = [[(hash_integers(7, _ROW, p, n) >> 11) * 2.0**-53 for n in range(3)] for p in (0, 5, 1 << 40)]
    assert draws.tolist() == expected


@pytest.mark.parametrize(
    "source", [RingOfGaussians(labelled=True), GridOfGaussians(labelled=True, std=0.1)], ids=lambda s: type(s).__name__
)
def test_points_have_the_moments_of_their_modes(source: RingOfGaussians | GridOfGaussians) -> None:
    points, labels = source.rows(np.arange(40_000), seed=1).values()
    means = source.means()
    counts = np.bincount(labels, minlength=len(means))
    share = 40_000 / len(means)
    assert np.abs(counts - share).max() < 4.5 * share**0.5, "4.5 standard deviations of a count"
    apart = (points - means[labels]) / source.std
    assert np.abs(apart.mean(0)).max() < 4.5 / 40_000**0.5
    assert np.abs(apart.std(0) - 1).max() < 4.5 / 80_000**0.5
    assert np.abs((apart[:, 0] * apart[:, 1]).mean()) < 4.5 / 40_000**0.5


def test_the_modes_lie_where_they_are_said_to() -> None:
    ring = RingOfGaussians(modes=4, radius=3).means()
    assert np.allclose(ring, [[3, 0], [0, 3], [-3, 0], [0, -3]], atol=1e-15)
    assert GridOfGaussians(side=2, spacing=4).means().tolist() == [[-2, -2], [2, -2], [-2, 2], [2, 2]]


def test_a_computed_source_is_the_same_for_any_rank_and_start() -> None:
    stream = ComputedStream(RingOfGaussians(labelled=True), seed=4)
    whole = rows(take(stream, 6))
    ranks = [rows(take(stream, 6, rank=rank, world=3, micro_batches=2)) for rank in range(3)]
    assert ranks[0] | ranks[1] | ranks[2] == whole
    assert rows(take(stream, 2, start=48)) == {p: row for p, row in whole.items() if p >= 48}
    assert [len(batch.keys) for batch in take(stream, 9, start=20, stop=40)] == [12, 8]
    assert rows(take(ComputedStream(RingOfGaussians(labelled=True), seed=5), 6)) != whole
    batch = take(stream, 1)[0]
    assert (batch.fields["point"].dtype, batch.fields["label"].dtype) == (torch.float32, torch.int64)


def test_the_fingerprint_of_a_computed_source_is_its_description() -> None:
    prints = [
        ComputedStream(source, seed=0).fingerprint
        for source in (RingOfGaussians(), RingOfGaussians(), RingOfGaussians(std=0.03), RingOfGaussians(labelled=True))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.fixture
def joined(tmp_path: Path) -> JoinedStream:
    return join(tmp_path)


def join(folder: Path) -> JoinedStream:
    """Two sets of shards of different sizes, and points."""
    streams: dict[str, Any] = {}
    for name, sizes in (("horses", (20, 17)), ("zebras", (11, 12))):
        place = folder / name if (folder / name).exists() else make_set(folder / name, sizes=sizes, classes=0)
        fields = (Image(name, 32),)
        streams[name] = open_stream(place, fields=fields, seed=seed_of(3, name), flip=True, worker_kind="thread")
    return JoinedStream({**streams, "points": ComputedStream(RingOfGaussians(), seed=seed_of(3, "points"))})


def test_several_sources_each_have_their_order_and_epoch(joined: JoinedStream) -> None:
    batches = take(joined, 20)
    keys = [key.split(" ") for batch in batches for key in batch.keys]
    for source, count in ((0, 37), (1, 23)):
        found = [key[source] for key in keys]
        epochs = [found[at : at + count] for at in range(0, 240 - count, count)]
        assert all(sorted(epoch) == [f"{n:09d}" for n in range(count)] for epoch in epochs)
        assert len(set(map(tuple, epochs))) == len(epochs)
    assert list(batches[0].fields) == ["horses", "zebras", "point"]
    assert len({(key[0], key[1]) for key in keys}) > 180, "of 240 pairs, about 31 are expected to come again"


def test_several_sources_are_the_same_for_any_rank_and_start(joined: JoinedStream) -> None:
    whole = rows(take(joined, 8))
    ranks = [rows(take(joined, 8, rank=rank, world=2, micro_batches=2)) for rank in (0, 1)]
    assert ranks[0] | ranks[1] == whole
    assert rows(take(joined, 3, start=60)) == {p: row for p, row in whole.items() if p >= 60}


def test_sources_of_one_size_do_not_pair_the_same_samples(tmp_path: Path) -> None:
    place = make_set(tmp_path, sizes=(40,), classes=0)
    streams = {
        name: open_stream(place, fields=(Image(name, 32),), seed=seed_of(0, name), worker_kind="thread")
        for name in ("a", "b")
    }
    keys = [key.split(" ") for batch in take(JoinedStream(streams), 10) for key in batch.keys]
    assert sum(a == b for a, b in keys) < 15, "3 of 120 are expected"


def test_a_joined_stream_tells_what_it_reads(joined: JoinedStream) -> None:
    told = joined.describe()
    assert list(told["sources"]) == ["horses", "zebras", "points"]
    assert (joined.count, told["count"]) == (37, 37)
    shards = joined.shards_at(list(range(37)))
    assert {shard.partition("/")[0] for shard in shards} == {"horses", "zebras"}


def test_an_error_of_one_source_ends_all(tmp_path: Path) -> None:
    join(tmp_path)
    key = destroy_picture(tmp_path / "zebras" / "train-000000.tar")
    with join(tmp_path).batches(0, batch_size=23) as batches:
        with pytest.raises(ShardError, match=f"zebras/train-000000.tar, sample {key}"):
            list(itertools.islice(batches, 2))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream-")]
        with pytest.raises(StopIteration):
            next(batches)


class Wrong(RingOfGaussians):
    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        return {"points": super().rows(positions, seed=seed)["point"]}


def test_rows_that_are_not_the_fields_are_refused() -> None:
    with pytest.raises(DataError, match=r"Wrong.rows gives points; its fields are \['point'\]"):
        take(ComputedStream(Wrong(), seed=0), 1)


class Opened:
    """A stream whose batches note that they were closed, or which does not open."""

    count, fingerprint, class_names = 1, "", ()

    def __init__(self, closed: list[str], name: str, *, fails: bool = False) -> None:
        self._closed, self._name, self._fails = closed, name, fails

    def batches(self, start: int, **share: Any) -> Opened:
        if self._fails:
            raise DataError(f"{self._name} does not open")
        return self

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.append(self._name)


def test_where_one_source_does_not_open_those_before_it_are_closed() -> None:
    closed: list[str] = []
    streams: Any = {"first": Opened(closed, "first"), "second": Opened(closed, "second", fails=True)}
    with pytest.raises(DataError, match="second does not open"):
        JoinedStream(streams).batches(0, batch_size=1)
    assert closed == ["first"]
