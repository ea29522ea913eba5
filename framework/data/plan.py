"""The sample at every position: pure arithmetic, the same for any number of ranks and workers.

A position counts samples since the start of training (it equals the clock, images seen) and never ends; epoch e holds
the positions [e * count, (e + 1) * count). Inside an epoch:

1. the shards are permuted and laid end to end on a line of `count` samples;
2. the line is cut into lanes, `lanes` near-equal parts, by samples and not by shards, so uneven shards do no harm;
3. each lane is cut into blocks of `window` samples and each block is permuted;
4. place p of the epoch is offset p // lanes in lane p % lanes.

So every epoch is a permutation of all samples, a window bounds how many shards are open at a time, and finding a sample
costs one permutation of a window. A batch mixes `lanes` windows: raise `lanes` where shards were written in class order
and the window cannot grow.

Permutations sort the output of SplitMix64 (Steele et al., OOPSLA 2014, doi:10.1145/2660193.2660195) in counter mode:
NumPy does not promise that its generators keep their streams between releases (NEP 19), and it must be possible to
resume a run with a later release.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from framework.data.errors import DataError

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
# Purposes keep the draws for shards, blocks, flips, crops and computed rows apart.
_SHARDS, _BLOCK, _FLIP, _CROP, _ROW = 1, 2, 3, 4, 5


class Place(NamedTuple):
    """The place of a position's sample: epoch, number of the shard, number of the sample in it."""

    epoch: int
    shard: int
    sample: int


def _mix(value: int) -> int:
    """Return SplitMix64's output function of a 64-bit integer."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def hash_integers(*values: int) -> int:
    """Return a 64-bit hash of a sequence of integers."""
    state = 0
    for value in values:
        state = _mix((state + _GOLDEN + _mix(value & _MASK)) & _MASK)
    return state


def permutation(count: int, *key: int) -> np.ndarray:
    """Return a uniform permutation of range(count) that depends on the key alone, int64 (count,)."""
    draws = np.uint64(hash_integers(*key)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    draws = (draws ^ (draws >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    draws = (draws ^ (draws >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    draws ^= draws >> np.uint64(31)
    # The number itself goes into the low bits: all values differ, so any sorting algorithm gives the same answer, and
    # sorting values is several times faster than argsort.
    low_bits = np.uint64((1 << (count - 1).bit_length()) - 1)
    return (np.sort((draws & ~low_bits) | np.arange(count, dtype=np.uint64)) & low_bits).astype(np.int64)


def flipped(seed: int, position: int) -> bool:
    """Return whether the sample at this position is mirrored left to right: one fair coin per (seed, position)."""
    return bool(hash_integers(seed, _FLIP, position) >> 63)


def crop_place(seed: int, position: int, counts: tuple[int, int]) -> tuple[int, int]:
    """Return the place of the crop of the sample at a position, uniform in (range(counts[0]), range(counts[1]))."""
    draw = hash_integers(seed, _CROP, position)
    return ((draw >> 32) * counts[0]) >> 32, ((draw & 0xFFFFFFFF) * counts[1]) >> 32


def row_draws(seed: int, positions: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Return `count` uniform numbers in [0, 1) for each of n positions of a computed source, float64 (n, count)."""
    head = np.uint64(hash_integers(seed, _ROW))
    states = _next_states(np.full((len(positions), 1), head), np.asarray(positions, np.uint64)[:, None])
    draws = _next_states(states, np.arange(count, dtype=np.uint64))
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _next_states(states: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return what `hash_integers` gives after one more integer, for arrays of states and integers, uint64."""
    return _mix_all(states + np.uint64(_GOLDEN) + _mix_all(values))


def _mix_all(values: np.ndarray) -> np.ndarray:
    """Return SplitMix64's output function of an array, uint64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def near_equal(total: int, parts: int) -> list[int]:
    """Return parts of a total that differ by at most one, larger ones first: [3, 3, 2, 2] for (10, 4)."""
    size, rest = divmod(total, parts)
    return [size + (part < rest) for part in range(parts)]


def _slice(start: int, total: int, parts: int, part: int) -> range:
    size, rest = divmod(total, parts)
    begin = start + part * size + min(part, rest)
    return range(begin, begin + size + (part < rest))


def rank_slices(start: int, *, batch_size: int, micro_batches: int, rank: int, world: int) -> list[range]:
    """Return what `rank_positions` returns, for a batch of any size, in which a rank may have no sample.

    The last batch of an evaluation can be that small.
    """
    slices = []
    for micro in range(micro_batches):
        whole = _slice(start, batch_size, micro_batches, micro)
        slices.append(_slice(whole.start, len(whole), world, rank))
    return slices


def rank_positions(
    start: int, *, batch_size: int, micro_batches: int = 1, rank: int = 0, world: int = 1
) -> list[range]:
    """Return this rank's part of the batch [start, start + batch_size): one range of positions per micro-batch.

    The batch is cut into near-equal global micro-batches, each of them into `world` near-equal consecutive slices, so
    which samples meet in a micro-batch does not depend on the number of ranks.

    Raises:
        DataError: a micro-batch has fewer samples than there are ranks, or an argument is out of range.
    """
    if start < 0 or micro_batches < 1 or not 0 <= rank < world:
        raise DataError(f"start {start}, micro_batches {micro_batches}, rank {rank} of {world}: out of range")
    if batch_size // micro_batches < world:
        raise DataError(
            f"batch_size {batch_size} in {micro_batches} micro-batches leaves some of {world} ranks without a sample; "
            f"raise batch_size to at least {world * micro_batches} or use fewer micro-batches or ranks"
        )
    return rank_slices(start, batch_size=batch_size, micro_batches=micro_batches, rank=rank, world=world)


class GlobalOrder:
    """The order of a data set, which does not depend on ranks, workers and batches.

    Args:
        sizes: number of samples of each shard.
        seed: any integer; another seed gives another order.
        window: number of samples shuffled together; 0 for all (best mixing, where one permutation of all fits into
            memory).
        lanes: number of places of the line that are read in turn.

    Attributes:
        count: number of samples in an epoch.

    Raises:
        DataError: there are no samples, or a parameter is out of range.
    """

    def __init__(self, sizes: Sequence[int] | np.ndarray, *, seed: int, window: int, lanes: int = 1) -> None:
        self.sizes = np.asarray(sizes, np.int64)
        self.count = int(self.sizes.sum())
        if self.count < 1 or (self.sizes < 0).any():
            raise DataError("the data set has no samples")
        if window < 0 or not 1 <= lanes <= self.count:
            raise DataError(f"window {window} must not be negative, lanes {lanes} must be in 1 ... {self.count}")
        self.seed, self.lanes = seed, lanes
        self.window = min(window, self.count) or self.count
        # One cache per instance: a cache on the class would keep every order alive that was ever made.
        self._shards = functools.lru_cache(maxsize=2)(self._permute_shards)
        self._block = functools.lru_cache(maxsize=2 * lanes + 2)(self._permute_block)

    def locate(self, position: int) -> Place:
        """Return the place of the sample at a position (0, 1, 2, ... without end).

        Raises:
            DataError: the position is negative; this holds for every method that takes one.
        """
        epoch, lane, block, offset = self._split(position)
        return self._place(epoch, lane, block, offset)

    def stand_ins(self, position: int) -> Iterator[Place]:
        """Yield substitutes for an unreadable sample: the rest of its block, in order, each once."""
        epoch, lane, block, offset = self._split(position)
        first, last = self._block_bounds(lane, block)
        for step in range(1, last - first):
            yield self._place(epoch, lane, block, (offset + step) % (last - first))

    def block_number(self, position: int) -> tuple[int, int]:
        """Return epoch and number of the block of a position; all lanes enter their blocks of one number together."""
        epoch, _, block, _ = self._split(position)
        return epoch, block

    def shards_near(self, position: int) -> list[int]:
        """Return the shards needed now and next, in this order and each once.

        First come those of the position's block in each lane, then those of the blocks after them.
        """
        epoch, block = self.block_number(position)
        here = [(epoch, lane, block) for lane in range(self.lanes)]
        after = [self._following(*place) for place in here]
        return list(dict.fromkeys(shard for place in here + after for shard in self._block_shards(*place)))

    def _following(self, epoch: int, lane: int, block: int) -> tuple[int, int, int]:
        more = (block + 1) * self.window < len(self._lane(lane))
        return (epoch, lane, block + 1) if more else (epoch + 1, lane, 0)

    def _block_shards(self, epoch: int, lane: int, block: int) -> list[int]:
        first, last = self._block_bounds(lane, block)
        order, starts = self._shards(epoch)
        return order[bisect.bisect_right(starts, first) - 1 : bisect.bisect_left(starts, last)].tolist()

    def max_block_shards(self) -> int:
        """Return an upper bound for the number of shards in use at a time: those of one block of every lane."""
        smallest = sorted(int(size) for size in self.sizes if size)
        shards, covered = 0, 0
        while covered < self.window and shards < len(smallest):
            covered += smallest[shards]
            shards += 1
        return min(len(smallest), self.lanes * (shards + 1))

    def _place(self, epoch: int, lane: int, block: int, offset: int) -> Place:
        point = int(self._block(epoch, lane, block)[offset])
        order, starts = self._shards(epoch)
        at = bisect.bisect_right(starts, point) - 1
        return Place(epoch, int(order[at]), point - starts[at])

    def _split(self, position: int) -> tuple[int, int, int, int]:
        """Return epoch, lane, block, and offset inside the block of a position."""
        if position < 0:
            raise DataError(f"position {position} is negative")
        epoch, place = divmod(position, self.count)
        offset, lane = divmod(place, self.lanes)
        return epoch, lane, *divmod(offset, self.window)

    def _lane(self, lane: int) -> range:
        return _slice(0, self.count, self.lanes, lane)

    def _block_bounds(self, lane: int, block: int) -> tuple[int, int]:
        line = self._lane(lane)
        first = line.start + block * self.window
        return first, min(first + self.window, line.stop)

    def _permute_shards(self, epoch: int) -> tuple[np.ndarray, list[int]]:
        """Return the shards in this epoch's order, and the points on the line where each begins and the last ends."""
        order = permutation(len(self.sizes), self.seed, _SHARDS, epoch)
        return order, [0, *np.cumsum(self.sizes[order]).tolist()]

    def _permute_block(self, epoch: int, lane: int, block: int) -> np.ndarray:
        """Return the points of a block on the line, shuffled, int64 (n,)."""
        first, last = self._block_bounds(lane, block)
        return first + permutation(last - first, self.seed, _BLOCK, epoch, lane, block)
