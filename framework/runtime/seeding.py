"""Random numbers are functions, not state.

Every number is a function of (seed, images seen, purpose) and of its row in the *global* batch, so 1, 2 and 4 processes
train the same run and a resumed run needs no saved generator state. There are two versions of this function, because
a run goes on with the one that it began with (docs/decisions/003-random-numbers.md).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from framework.runtime import distributions
from framework.runtime.splitmix import Stream
from framework.utils.errors import FrameworkError

DrawsVersion = Literal[1, 2]
"""1: NumPy's Philox (Salmon et al. 2011) for the whole batch on the CPU. 2: a hash of the row, where it is needed."""
VERSIONS: tuple[DrawsVersion, ...] = get_args(DrawsVersion)
NEW_RUNS: DrawsVersion = 2
"""The version with which a new run begins."""
ALL, CPU = slice(None), torch.device("cpu")
MOST_WORDS_AT_ONCE = 1 << 14
"""The most random words, of 8 bytes each, that normal numbers are made of at a time on the CPU."""


def derive(*key: int | str, bits: int = 128) -> int:
    """Return an integer of `bits` bits that depends on every part of the key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=bits // 8).digest()
    return int.from_bytes(digest, "little")


class Draws:
    """The random numbers of one step of the clock, for a global batch or some rows of it.

    Numbers of version 2 are equal to the bit for any rows, device and number of threads. Version 1 computes the whole
    batch on the CPU whatever rows are asked for.

    Args:
        seed: seed of the run.
        images_seen: the clock.
        version: a run passes its own. Whatever is drawn apart from runs (sample grids, evaluations) stays with 1, so
            that a seed goes on to show the same images.
    """

    def __init__(self, *, seed: int, images_seen: int, version: DrawsVersion = 1) -> None:
        assert version in VERSIONS
        self.seed = seed
        self.images_seen = images_seen
        self.version: DrawsVersion = version

    def normal(self, purpose: str, *shape: int, rows: slice = ALL, device: torch.device = CPU) -> Tensor:
        """Draw standard normal float32 values.

        Args:
            purpose: the name of what the numbers are for.
            shape: global shape, whose first size is the global batch.
            rows: consecutive rows of the batch; all of them by default.
            device: where they are needed.
        """
        if self.version == 1:
            return _part(self._generator(purpose).standard_normal(shape, dtype=np.float32), rows, device)
        count, mine = math.prod(shape[1:]), range(shape[0])[rows]
        per_row = distributions.words_of_normals(count)
        # On the CPU some rows at a time, so that what lies between words and numbers stays in the cache.
        step = len(mine) if device.type == "cuda" else MOST_WORDS_AT_ONCE // max(1, per_row)
        parts = [
            distributions.normal(self.words(purpose, shape[0], per_row, rows=part, device=device), count)
            for part in _cut(mine, max(1, step))
        ]
        return _shaped(torch.cat(parts), shape, device)

    def uniform(self, purpose: str, *shape: int, rows: slice = ALL, device: torch.device = CPU) -> Tensor:
        """Draw float32 values, uniform in [0, 1); arguments as for `normal`."""
        if self.version == 1:
            return _part(self._generator(purpose).random(shape, dtype=np.float32), rows, device)
        words = self.words(purpose, shape[0], math.prod(shape[1:]), rows=rows, device=device)
        return _shaped(distributions.uniform(words), shape, device)

    def integers(self, purpose: str, high: int, *shape: int, rows: slice = ALL, device: torch.device = CPU) -> Tensor:
        """Draw int64 values, uniform in [0, high); other arguments as for `normal`."""
        if self.version == 1:
            return _part(self._generator(purpose).integers(0, high, shape, dtype=np.int64), rows, device)
        words = self.words(purpose, shape[0], math.prod(shape[1:]), rows=rows, device=device)
        return _shaped(distributions.integers(words, high), shape, device)

    def words(self, purpose: str, batch_size: int, per_row: int, *, rows: slice, device: torch.device) -> Tensor:
        """Return the random words (n, per_row) int64 of some rows of the batch; version 2 is made of them.

        Those for the meta device are on the CPU, since torch's hashing without values would first import for a second.
        """
        assert self.version == 2
        stream = Stream.of(derive(self.seed, self.images_seen, purpose))
        return stream.words(range(batch_size)[rows], per_row, device=CPU if device.type == "meta" else device)

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=derive(self.seed, self.images_seen, purpose)))


def _cut(rows: range, step: int) -> Iterator[slice]:
    """Cut rows into slices of at most `step`; no rows are one empty slice."""
    for start in range(rows.start, max(rows.stop, rows.start + 1), step):
        yield slice(start, min(start + step, rows.stop))


def _part(values: np.ndarray, rows: slice, device: torch.device) -> Tensor:
    return torch.from_numpy(values)[rows].to(device, non_blocking=True)


def _shaped(values: Tensor, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return values.view(len(values), *shape[1:]).to(device)


def seed_torch(*key: int | str) -> None:
    """Seed torch's own generators, which initialise networks, from a key."""
    torch.manual_seed(derive(*key, bits=64))


@contextmanager
def no_draws(device: torch.device, *, images_seen: int) -> Iterator[None]:
    """Refuse a step that took from torch's generators, whose numbers depend on how the batch was cut.

    Networks are tried before a run begins; this also catches draws that happen only later, in any network, loss or
    penalty.

    Args:
        device: where the step computes.
        images_seen: the clock, for the message.

    Raises:
        FrameworkError: the state of one of torch's generators has changed.
    """
    before = _generator_states(device)
    yield
    if not all(map(torch.equal, before, _generator_states(device))):
        raise FrameworkError(
            f"at {images_seen:,} images a network, the loss, a penalty or an augmentation drew from torch's own random "
            "numbers, which differ with the number of processes and after a resume; nothing of this step was saved. "
            "Take them from `draw` (in a network: stochastic(draw), framework.Dropout; "
            "docs/decisions/008-what-a-network-may-do.md)"
        )


def _generator_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))  # kept on the CPU: the device is not waited for
    return states
