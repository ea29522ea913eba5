"""Which samples are consumed does not depend on how many processes consume them."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.data.consumed import consumed, keys_hash, recorded
from framework.data.stream import open_stream
from tests.helpers.launch import ROOT

IMAGES, BATCH = 2016, 48


def audit(folder: Path, *, world: int, micro_batches: int, start: int = 0) -> dict[int, str]:
    """The keys of one epoch and a bit of the vendored data, read as `world` processes would."""
    shards = ROOT / "recipes/data/fashion_mnist"
    for rank in range(world):
        stream = open_stream(shards, resolution=32, channels=1, classes=10, seed=7, window=300, workers=2)
        options = {"batch_size": BATCH, "micro_batches": micro_batches, "rank": rank, "world": world}
        with stream.batches(start, stop=IMAGES, **options) as batches:
            for _ in recorded(batches, folder=folder, rank=rank):
                pass
    return consumed(folder)


def test_one_two_and_four_processes_consume_the_same_keys_in_the_same_order(tmp_path: Path) -> None:
    hashes = {}
    for world in (1, 2, 4):
        keys = audit(tmp_path / str(world), world=world, micro_batches=3)
        assert list(keys) == list(range(IMAGES))
        assert len(set(list(keys.values())[:1750])) == 1750  # an epoch is a permutation
        hashes[world] = keys_hash(keys)
    print("\n".join(f"{world} process(es): {value}" for world, value in hashes.items()))
    assert len(set(hashes.values())) == 1


def test_a_run_that_changes_its_number_of_processes_consumes_the_same_keys(tmp_path: Path) -> None:
    whole = audit(tmp_path / "whole", world=1, micro_batches=1)
    audit(tmp_path / "parts", world=4, micro_batches=1, start=BATCH * 20)
    parts = consumed(tmp_path / "parts")
    assert parts == {position: key for position, key in whole.items() if position >= BATCH * 20}


def test_two_keys_for_one_position_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "rank-00000.txt").write_text("0 a\n1 b\n")
    (tmp_path / "rank-00001.txt").write_text("1 c\n")
    with pytest.raises(ValueError, match="position 1 has the keys b and c"):
        consumed(tmp_path)
