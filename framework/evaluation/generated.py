"""Generated samples by position: sample i is a function of the weights, the sampler and i, whoever draws it.

`undisturbed` lets an evaluation draw them in the middle of training and leave no trace in what training computes later.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from framework.evaluation.images import Part, even_batch_ranges
from framework.sampling.sampler import LatentSampler, Sampler


@contextlib.contextmanager
def undisturbed(*networks: nn.Module) -> Iterator[None]:
    """Restore random numbers, modes and buffers (batch-norm statistics) after the block, which computes no gradients.

    Our own draws come from keys and not from these random number generators; but a library or a layer might use them,
    and then a run with evaluations would differ from the run without.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    python, old_numpy = random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            for network in networks:
                network.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(old_numpy)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@dataclass(frozen=True, kw_only=True)
class GeneratedSamples:
    """The samples that a sampler draws with a network.

    Attributes:
        network: a network in eval mode; the caller has put the average in place where wanted.
        sampler: draws samples by position; the default draws pictures from latents, without classes.
        count: number of samples for metrics that name no count; at most what the sampler has.
        weights: the weights that the network holds, for the protocol.
        notes: further facts for the protocol, such as standing statistics.
    """

    network: nn.Module
    sampler: Sampler = field(default_factory=LatentSampler)
    count: int = 50_000
    weights: Literal["ema", "live"] = "ema"
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler.count is not None:
            object.__setattr__(self, "count", min(self.count, self.sampler.count))

    @property
    def endless(self) -> bool:
        """Whether more than `count` samples can be drawn, as from latents."""
        return self.sampler.count is None

    @property
    def classes(self) -> int:
        """Number of classes; 0 without labels."""
        return self.sampler.classes

    @property
    def picture(self) -> str | None:
        """Name of the pictures; None where samples are something else."""
        return self.sampler.picture

    def describe(self) -> dict[str, Any]:
        """Return the facts about these samples that belong to the protocol."""
        return {"kind": "generator", "weights": self.weights, **self.sampler.describe(), **self.notes}

    def draw(self, positions: range) -> dict[str, Tensor]:
        """Draw the samples at these positions: named tensors (n, ...) on the host."""
        return self.sampler.draw(self.network, positions)

    def picture_size(self) -> list[int]:
        """Draw one picture and return its height and width."""
        assert self.picture is not None
        return list(self.draw(range(1))[self.picture].shape[-2:])

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this rank's batches of the first `count` samples; see `SampleSet.parts`."""
        for positions, mine in even_batch_ranges(count, rank=rank, world=world):
            samples = self.draw(positions)
            if mine:
                yield Part(positions.start, samples, self.picture)
