from __future__ import annotations

import pytest
import torch
from torch import Tensor

from framework import Holes, LowResolution
from framework.data.errors import DataError
from framework.games.microbatch import BatchPartition, BatchSplitter, MicroBatch
from framework.runtime.seeding import Draws


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("micro_batches", [1, 2, 3])
def test_every_row_belongs_to_one_process_and_its_micro_batch_to_none(world: int, micro_batches: int) -> None:
    shares = [
        BatchPartition(batch_size=23, micro_batches=micro_batches, rank=rank, world=world).slices()
        for rank in range(world)
    ]
    for index in range(micro_batches):
        rows = [row for share in shares for row in range(share[index].rows.start, share[index].rows.stop)]
        alone = BatchPartition(batch_size=23, micro_batches=micro_batches).slices()[index].rows
        assert rows == list(range(alone.start, alone.stop))
    assert sum(micro.weight for share in shares for micro in share) == pytest.approx(world)
    for share in shares:
        assert [micro.last for micro in share] == [False] * (micro_batches - 1) + [True]
        assert share[0].local.start == 0
        assert [m.local.stop for m in share[:-1]] == [m.local.start for m in share[1:]]


def test_a_process_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="leaves some of 4 ranks without a sample"):
        BatchPartition(batch_size=6, micro_batches=2, world=4).slices()


def split(rank: int, world: int, micro_batches: int) -> list[MicroBatch]:
    """What a process makes of its part of a global batch of 7 pictures and of points, 0 to 3 a sample."""
    counts = torch.tensor([2, 0, 3, 1, 0, 2, 1])
    index = torch.repeat_interleave(torch.arange(7), counts)
    pictures = torch.arange(7 * 16, dtype=torch.float32).view(7, 1, 4, 4)
    points = torch.arange(len(index) * 2, dtype=torch.float32).view(-1, 2)
    slices = BatchPartition(batch_size=7, micro_batches=micro_batches, rank=rank, world=world).slices()
    mine = torch.tensor([row for part in slices for row in range(part.rows.start, part.rows.stop)])
    chosen = [index == row for row in mine]
    fields = {
        "image": pictures[mine],
        "points": torch.cat([points[one] for one in chosen]),
        "points_index": torch.repeat_interleave(torch.arange(len(mine)), counts[mine]),
    }
    splitter = BatchSplitter(
        slices=slices,
        batch_size=7,
        device=torch.device("cpu"),
        dtype=torch.float32,
        derive=(Holes("holes", of="image"), LowResolution("small", of="image", factor=2)),
    )
    return list(splitter.split(fields, Draws(seed=1, images_seen=0, version=2), "turn", batch=0))


def by_row(parts: list[MicroBatch]) -> dict[int, dict[str, Tensor]]:
    """Every sample's fields, its points picked out, and its draws, by its place in the global batch."""
    found = {}
    for part in parts:
        noise = part.draw.normal("z", 3)
        for place, row in enumerate(part.rows.tolist()):
            fields = part.fields
            found[row] = {
                **{name: fields[name][place] for name in ("image", "holes", "small")},
                "points": fields["points"][fields["points_index"] == place],
                "z": noise[place],
            }
    return found


@pytest.mark.parametrize(("world", "micro_batches"), [(1, 2), (3, 1), (3, 2), (1, 7)])
def test_derived_and_ragged_fields_are_the_same_however_a_batch_is_cut(world: int, micro_batches: int) -> None:
    whole = by_row(split(0, 1, 1))
    assert sorted(whole) == list(range(7))
    assert [len(fields["points"]) for fields in whole.values()] == [2, 0, 3, 1, 0, 2, 1]
    cut = by_row([part for rank in range(world) for part in split(rank, world, micro_batches)])
    assert sorted(cut) == list(range(7))
    for row, fields in whole.items():
        assert all(torch.equal(fields[name], cut[row][name]) for name in fields)
