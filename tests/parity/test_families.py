"""Every family on one process and on two, and stopped and resumed: the same training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.networks.blocks.moving import moving_means
from framework.networks.blocks.norm import BatchNorm2d
from tests.helpers.families import FAMILIES, segment_of
from tests.helpers.play import largest_difference, outputs, start, steps
from tests.helpers.spawn import run_ranks

COUNT = 4
TOLERANCE = 1e-9
"""Of float64 arithmetic in another order of summation, over a few steps of networks with kinks."""
TOLERANCE_BEHIND_BATCH_NORM = 1e-7
"""A bias in front of a batch norm has a true gradient of zero; Adam divides its rounding, 1e-16 or so, by its eps of
1e-8 and so moves it by up to 4e-10 in four steps of lr 1e-3. Training does not see it (the norm subtracts it), but
evaluation with running statistics, which lag behind, does, 30 times amplified by their division."""


def play(kind: str) -> dict[str, Tensor]:
    """All families in one go, because starting processes is what costs."""
    results: dict[str, Tensor] = {}
    for name, recipe in FAMILIES.items():
        played = start(recipe, dtype=torch.float64, segment=segment_of(recipe))
        found = steps(played, count=COUNT) | outputs(played)
        for side, memory in played.game.memory.items():
            found |= {f"memory/{side}/{what}": value.clone() for what, value in memory.items()}
        means = moving_means(played.game.players["generator"].network)
        found |= {f"moving/{index}": mean.value.clone() for index, mean in enumerate(means)}
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Tensor]]:
    return {1: run_ranks(play, 1, "one")[0], 2: run_ranks(play, 2, "two")[0]}


@pytest.mark.distributed
@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_train_as_one_does(results: dict[int, dict[str, Tensor]], name: str) -> None:
    scores = largest_difference(results[1], results[2], f"{name}/scores/")
    images = largest_difference(results[1], results[2], f"{name}/outputs/")
    print(f"{name}: {COUNT} steps on 1 and 2 processes, float64: scores {scores:.1e}, outputs {images:.1e}")
    assert scores < TOLERANCE
    normed = any(isinstance(m, BatchNorm2d) for m in FAMILIES[name].build_network("generator").modules())
    assert images < (TOLERANCE_BEHIND_BATCH_NORM if normed else TOLERANCE)
    for key, value in results[1].items():
        if key.startswith(f"{name}/moving/"):
            torch.testing.assert_close(results[2][key], value, rtol=TOLERANCE, atol=TOLERANCE)
    for key, value in results[1].items():
        if key.startswith(f"{name}/memory/"):
            torch.testing.assert_close(results[2][key], value, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_resumed_from_a_checkpoint_it_is_equal_to_the_bit(name: str, tmp_path: Path) -> None:
    recipe = FAMILIES[name]
    straight, stopped, again = (start(recipe, segment=segment_of(recipe)) for _ in range(3))
    per_step = straight.game.images_of_step(0)
    steps(straight, count=4)
    steps(stopped, count=2)
    with Writer(tmp_path, rank=0, world=1, token="t", retention=Retention(last=1)) as writer:
        record = {"players": stopped.state.record()}
        writer.save(2, stopped.state.slices(own=True, buffers=True), documents={}, record=record)
    again.state.restore(Checkpoint.open(tmp_path / "2"))
    steps(again, begin=2 * per_step, count=2)
    expected = {tensor_slice.key: tensor_slice.values for tensor_slice in straight.state.slices(own=True, buffers=True)}
    for tensor_slice in again.state.slices(own=True, buffers=True):
        assert torch.equal(tensor_slice.values, expected.pop(tensor_slice.key)), tensor_slice.key
    assert not expected
    assert again.game.memory == straight.game.memory
