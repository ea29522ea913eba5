"""One process's micro-batches of a turn: its rows of the real batch, of the latents, and of every random number.

The global batch is split into consecutive micro-batches, and each of them into one consecutive slice per process (see
`framework.data.plan`). So which images meet in one micro-batch, and share batch statistics, does not depend on the
number of processes. Random numbers are functions of (seed, images seen, purpose) and of the row in the global batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from framework.data.derived import DerivedField, with_derived
from framework.data.fields import INDEX_SUFFIX
from framework.data.plan import rank_positions
from framework.networks.blocks.noise import seeded_normal
from framework.networks.draw import Request, drawn_apart
from framework.runtime import distributions
from framework.runtime.seeding import Draws
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class BatchSlice:
    """One process's part of one micro-batch."""

    rows: slice
    """The rows of this part in the global batch."""
    local: slice
    """The same rows, counted within this process's part of the global batch."""
    weight: float
    """The factor on this process's mean loss that makes the average over processes the mean over the global batch."""
    last: bool
    """Whether this is the last micro-batch of the global batch."""


@dataclass(frozen=True, kw_only=True)
class BatchPartition:
    """This process's share of every global batch of `batch_size` images."""

    batch_size: int
    micro_batches: int = 1
    rank: int = 0
    world: int = 1

    def slices(self) -> list[BatchSlice]:
        """Return this process's micro-batches in order.

        Raises:
            DataError: some process would be left without images.
        """
        shares = rank_positions(
            0, batch_size=self.batch_size, micro_batches=self.micro_batches, rank=self.rank, world=self.world
        )
        slices: list[BatchSlice] = []
        offset = 0
        for rows in shares:
            slices.append(
                BatchSlice(
                    rows=slice(rows.start, rows.stop),
                    local=slice(offset, offset + len(rows)),
                    weight=len(rows) * self.world / self.batch_size,
                    last=len(slices) == self.micro_batches - 1,
                )
            )
            offset += len(rows)
        return slices


MOST_DRAWN_ON_CPU = 4_096
"""The most numbers per image that version 1 draws on the CPU; larger noise is hashed on the device from seeds."""


class _Where(TypedDict):
    """Which rows of the batch are drawn, and where."""

    rows: slice
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class ImageDraws:
    """The random numbers of the images of one micro-batch (the protocol `framework.networks.draw.Draw`)."""

    draws: Draws
    purpose: str
    batch_size: int
    rows: slice
    device: torch.device
    dtype: torch.dtype

    def normal(self, what: str, *shape: int) -> Tensor:
        """Return standard normal values (n, *shape)."""
        if self.draws.version == 1 and math.prod(shape) > MOST_DRAWN_ON_CPU:
            noise = seeded_normal(self.integers(f"{what}/seed", 1 << 62), 0, 1, math.prod(shape))
            return noise.view(-1, *shape).to(self.dtype)
        return self.draws.normal(self._name(what), self.batch_size, *shape, **self._mine).to(self.dtype)

    def uniform(self, what: str, *shape: int) -> Tensor:
        """Return values (n, *shape) uniform in [0, 1)."""
        return self.draws.uniform(self._name(what), self.batch_size, *shape, **self._mine).to(self.dtype)

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        """Return int64 values (n, *shape) uniform in [0, high)."""
        return self.draws.integers(self._name(what), high, self.batch_size, *shape, **self._mine)

    def together(self, what: str, requests: Mapping[str, Request]) -> dict[str, Tensor]:
        """Return many values (n, *shape) by name: in version 1 each drawn by itself, from then on by one hash."""
        if self.draws.version == 1:
            return drawn_apart(self, requests)
        # How many numbers an image gets of each kind, and of how many words they are made.
        counts = {name: math.prod(request.shape) for name, request in requests.items()}
        sizes = dict.fromkeys(("uniform", "integers", "normal"), 0)
        for name, request in requests.items():
            sizes[request.kind] += counts[name]
        widths = [sizes["uniform"], sizes["integers"], distributions.words_of_normals(sizes["normal"])]
        words = self.draws.words(self._name(what), self.batch_size, sum(widths), **self._mine)
        uniform, whole, normal = words.split(widths, dim=1)
        # Each request takes the next columns of its kind.
        columns = {
            "uniform": distributions.uniform(uniform).to(self.device, self.dtype),
            "integers": whole,
            "normal": distributions.normal(normal, sizes["normal"]).to(self.device, self.dtype),
        }
        ends = dict.fromkeys(columns, 0)
        values = {}
        for name, request in requests.items():
            begin = ends[request.kind]
            ends[request.kind] = begin + counts[name]
            taken = columns[request.kind][:, begin : ends[request.kind]]
            if request.kind == "integers":
                taken = distributions.integers(taken, request.high).to(self.device)
            values[name] = taken.reshape(-1, *request.shape)
        return values

    def under(self, purpose: str) -> ImageDraws:
        """Return other numbers for the same images, named by `purpose`."""
        return replace(self, purpose=self._name(purpose))

    def _name(self, what: str) -> str:
        return f"{self.purpose}/{what}"

    @property
    def _mine(self) -> _Where:
        return {"rows": self.rows, "device": self.device}


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """One process's part of one micro-batch of one turn."""

    fields: Mapping[str, Tensor]
    """The real samples by field, each (n, ...); pictures in [-1, 1]."""
    draw: ImageDraws
    """All random numbers of the turn."""
    rows: Tensor
    """The samples' places in the global batch, (n,) int64 on the CPU."""
    weight: float
    """The factor on this process's mean loss, see `BatchSlice`."""
    last: bool
    """Whether this is the turn's last micro-batch."""


@dataclass(frozen=True, kw_only=True)
class BatchSplitter:
    """Cuts one turn of the global batch into this process's micro-batches."""

    slices: list[BatchSlice]
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    derive: Sequence[DerivedField] = ()
    """Fields that are computed on the device from the samples and from random numbers."""

    def split(
        self, fields: Mapping[str, Tensor], draws: Draws, purpose: str, *, batch: int = 0, repeats: int = 1
    ) -> Iterator[MicroBatch]:
        """Yield this process's micro-batches of one turn.

        Args:
            fields: this process's samples by field, each (n, ...), micro-batch after micro-batch.
            draws: random numbers of the step.
            purpose: name of the turn, part of what its random numbers are a function of.
            batch: number of the global batch within the step, by which fields are derived: alike in all of its turns.
            repeats: how often each sample stands in the turn, one after the other; each time with other numbers.

        Raises:
            FrameworkError: samples of a ragged field are to be repeated.
        """
        for part in self.slices:
            drawn = partial(ImageDraws, draws=draws, device=self.device, dtype=self.dtype)
            derived = drawn(purpose=f"data/{batch}", batch_size=self.batch_size, rows=part.rows)
            samples = with_derived(_cut(fields, part.local), self.derive, derived)
            rows = slice(part.rows.start * repeats, part.rows.stop * repeats)
            yield MicroBatch(
                fields=samples if repeats == 1 else _repeated(samples, repeats),
                draw=drawn(purpose=purpose, batch_size=self.batch_size * repeats, rows=rows),
                rows=torch.arange(rows.start, rows.stop),
                weight=part.weight,
                last=part.last,
            )


def _repeated(fields: Mapping[str, Tensor], repeats: int) -> dict[str, Tensor]:
    """Return samples (n, ...) by field with each of them several times in a row, (n * repeats, ...)."""
    ragged = [name for name in fields if name.endswith(INDEX_SUFFIX) and name.removesuffix(INDEX_SUFFIX) in fields]
    if ragged:
        raise FrameworkError(f"samples of a ragged field cannot be repeated in a turn: {ragged[0]!r}")
    return {name: values.repeat_interleave(repeats, 0) for name, values in fields.items()}


def _cut(fields: Mapping[str, Tensor], local: slice) -> dict[str, Tensor]:
    """Return the samples of a slice; of a ragged field, the entries (m, ...) of these samples, counted from the first.

    Args:
        fields: samples by field, each (n, ...), and for a ragged field the sample of every entry under its index name.
    """
    part: dict[str, Tensor] = {}
    for name, rows in fields.items():
        index = fields.get(name + INDEX_SUFFIX)
        own = rows if name.endswith(INDEX_SUFFIX) and name.removesuffix(INDEX_SUFFIX) in fields else index
        if own is None:
            part[name] = rows[local]
            continue
        inside = (own >= local.start) & (own < local.stop)
        part[name] = rows[inside] if index is not None else rows[inside] - local.start
    return part
