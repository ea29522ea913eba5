"""The global batch is split into micro-batches first, then over processes.

The global batch is cut into consecutive micro-batches and each of them into one consecutive slice per process (see
`framework.data.plan`), so which images meet in one micro-batch, and share batch statistics, does not depend on the
number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

from framework.data.plan import rank_positions


@dataclass(frozen=True, kw_only=True)
class Micro:
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
class BatchShare:
    """This process's share of every global batch of `batch_size` images."""

    batch_size: int
    micro_batches: int = 1
    rank: int = 0
    world: int = 1

    def micros(self) -> list[Micro]:
        """Return this process's micro-batches in order.

        Raises:
            DataError: some process would be left without images.
        """
        shares = rank_positions(
            0, batch_size=self.batch_size, micro_batches=self.micro_batches, rank=self.rank, world=self.world
        )
        micros: list[Micro] = []
        offset = 0
        for rows in shares:
            micros.append(
                Micro(
                    rows=slice(rows.start, rows.stop),
                    local=slice(offset, offset + len(rows)),
                    weight=len(rows) * self.world / self.batch_size,
                    last=len(micros) == self.micro_batches - 1,
                )
            )
            offset += len(rows)
        return micros
