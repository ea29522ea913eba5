"""Random numbers are functions, not state.

Every draw is made for the *global* batch from (seed, images seen, purpose) and then sliced, so 1, 2 and 4 processes
train the same run and a resumed run needs no saved generator state. NumPy's Philox (counter-based, Salmon et al. 2011)
gives the same bits on every machine and device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from framework.utils.errors import FrameworkError


def derive(*key: int | str, bits: int = 128) -> int:
    """Return an integer of `bits` bits that depends on every part of the key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=bits // 8).digest()
    return int.from_bytes(digest, "little")


class Draws:
    """The random numbers of one step of the clock, for a global batch.

    Args:
        seed: seed of the run.
        images_seen: the clock.
    """

    def __init__(self, *, seed: int, images_seen: int) -> None:
        self.seed = seed
        self.images_seen = images_seen

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=derive(self.seed, self.images_seen, purpose)))

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Draw standard normal float32 values of the given global shape, on the CPU."""
        return torch.from_numpy(self._generator(purpose).standard_normal(shape, dtype=np.float32))

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Draw float32 values, uniform in [0, 1), of the given global shape, on the CPU."""
        return torch.from_numpy(self._generator(purpose).random(shape, dtype=np.float32))

    def integers(self, purpose: str, high: int, *shape: int) -> Tensor:
        """Draw int64 values, uniform in [0, high), of the given global shape, on the CPU."""
        return torch.from_numpy(self._generator(purpose).integers(0, high, shape, dtype=np.int64))


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
