from __future__ import annotations

import pytest

from framework.data.errors import DataError
from framework.games.microbatch import BatchPartition


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
