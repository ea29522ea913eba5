import time

import numpy as np
import pytest

from framework.data.errors import DataError
from framework.data.plan import GlobalOrder, flipped, near_equal, permutation, rank_positions, rank_slices

UNEVEN = [50, 1, 37, 50, 0, 50, 12]


@pytest.mark.parametrize("lanes", [1, 3, 4, 12])
@pytest.mark.parametrize("window", [1, 7, 64, 0, 1 << 20])
def test_each_epoch_is_a_permutation(lanes: int, window: int) -> None:
    order = GlobalOrder(UNEVEN, seed=1, window=window, lanes=lanes)
    everything = {(shard, index) for shard, size in enumerate(UNEVEN) for index in range(size)}
    epochs = []
    for epoch in range(3):
        places = [order.locate(epoch * 200 + p) for p in range(200)]
        assert {place.epoch for place in places} == {epoch}
        assert {(place.shard, place.sample) for place in places} == everything
        epochs.append([(place.shard, place.sample) for place in places])
    assert epochs[0] != epochs[1] != epochs[2]


def test_blocks_are_shuffled_anew_in_each_epoch_lane_and_place() -> None:
    order = GlobalOrder([60], seed=0, window=10, lanes=2)
    shuffled = set()
    for start in range(0, 180, 20):
        for lane in (0, 1):
            places = [order.locate(start + lane + 2 * p).sample for p in range(10)]
            shuffled.add(tuple(place - min(places) for place in places))
    assert len(shuffled) == 18


def test_order_depends_on_the_seed_and_never_changes_between_releases() -> None:
    order = GlobalOrder([5, 5, 5], seed=0, window=8)
    assert [tuple(order.locate(p)[1:]) for p in range(15)] != [
        tuple(GlobalOrder([5, 5, 5], seed=1, window=8).locate(p)[1:]) for p in range(15)
    ]
    # Golden: runs of the past resume with releases of the future.
    assert permutation(10, 0, 1, 2).tolist() == GOLDEN_PERMUTATION
    assert "".join(str(int(flipped(0, p))) for p in range(32)) == GOLDEN_FLIPS


GOLDEN_PERMUTATION = [1, 7, 6, 9, 4, 2, 3, 5, 8, 0]
GOLDEN_FLIPS = "00000111011000000101000000000001"


def test_permutations_are_uniform() -> None:
    counts = np.zeros((6, 6))
    for draw in range(6000):
        counts[np.arange(6), permutation(6, draw)] += 1
    assert abs(counts - 1000).max() < 150  # 5 standard deviations of a fair draw


def test_flips_are_fair_and_independent_of_neighbours_and_seed() -> None:
    flips = np.array([[flipped(seed, p) for p in range(20000)] for seed in (0, 1)])
    assert abs(flips.mean() - 0.5) < 0.02
    assert abs((flips[0] == flips[1]).mean() - 0.5) < 0.02
    assert abs((flips[:, 1:] == flips[:, :-1]).mean() - 0.5) < 0.02


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("batch_size", "micro_batches"), [(64, 1), (64, 2), (37, 3), (27, 2)])
def test_ranks_share_every_batch_and_micro_batches_do_not_depend_on_them(
    batch_size: int, micro_batches: int, world: int
) -> None:
    start = 1000
    shares = [
        rank_positions(start, batch_size=batch_size, micro_batches=micro_batches, rank=r, world=world)
        for r in range(world)
    ]
    bounds = np.cumsum([start, *near_equal(batch_size, micro_batches)])
    for micro in range(micro_batches):
        together = [position for share in shares for position in share[micro]]
        assert together == list(range(bounds[micro], bounds[micro + 1]))
        sizes = [len(share[micro]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


def test_a_rank_without_a_sample_is_refused_but_may_be_cut_off() -> None:
    with pytest.raises(DataError, match="without a sample; raise batch_size to at least 8"):
        rank_positions(0, batch_size=7, micro_batches=2, rank=0, world=4)
    with pytest.raises(DataError, match="out of range"):
        rank_positions(0, batch_size=7, rank=1, world=1)
    assert [len(s[0]) for s in (rank_slices(0, batch_size=1, micro_batches=1, rank=r, world=2) for r in (0, 1))] == [
        1,
        0,
    ]


def test_stand_ins_walk_the_rest_of_the_block_once() -> None:
    order = GlobalOrder(UNEVEN, seed=5, window=16, lanes=2)
    for position in (200, 233, 399, 250):
        block = [p for p in range(200, 400) if order.block_number(p) == order.block_number(position)]
        lane = {order.locate(p) for p in block if p % 2 == position % 2}
        walk = list(order.stand_ins(position))
        assert len(walk) == len(set(walk)) == len(lane) - 1
        assert {*walk, order.locate(position)} == lane


def test_shards_near_are_those_of_this_block_then_of_the_next() -> None:
    order = GlobalOrder([10] * 20, seed=2, window=40)
    for start in (0, 40, 160, 200):
        near = order.shards_near(start)
        here = {order.locate(p).shard for p in range(start, start + 40)}
        after = {order.locate(p).shard for p in range(start + 40, start + 80)}
        assert set(near[: len(here)]) == here
        assert set(near) == here | after
        assert len(here) <= order.max_block_shards()


@pytest.mark.parametrize(
    ("kwargs", "text"), [({"sizes": []}, "no samples"), ({"window": -1}, "window"), ({"lanes": 0}, "lanes")]
)
def test_impossible_orders_are_refused(kwargs: dict, text: str) -> None:
    with pytest.raises(DataError, match=text):
        GlobalOrder(**{"sizes": [3], "seed": 0, "window": 4} | kwargs)


def test_first_batch_anywhere_in_100_million_samples_takes_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = {}
    for epoch, part in ((0, 0.0), (0, 0.5), (3, 0.99)):
        best = 1.0
        for _ in range(3):
            begun = time.process_time()
            order = GlobalOrder([10_000] * 10_000, seed=0, window=65536)
            start = epoch * order.count + int(part * order.count)
            places = [order.locate(start + p) for p in range(64)]
            best = min(best, time.process_time() - begun)
        assert len(set(places)) == 64
        times[f"epoch {epoch}, {part:.0%}"] = f"{1000 * best:.1f} ms"
        assert best < 0.1
    with capsys.disabled():
        print(f"\nfirst batch of 64 among 100 M samples, CPU: {times}")
