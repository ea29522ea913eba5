"""A stacked GAN on one process and on two, on sharded engines, and stopped and resumed: the same training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from framework.checkpoint import Checkpoint, Retention, Writer
from tests.helpers.play import largest_difference, steps
from tests.helpers.spawn import run_ranks
from tests.helpers.stacking import judged, stacked_recipe, started

COUNT = 4
"""Steps that are played: two with the levels apart, two with the levels together."""
TOLERANCE = 1e-9
"""Of float64 arithmetic in another order of summation, as a share of the largest output: sums of some 1e3 terms are
rounded by 1e-13 of their size, and Adam divides by gradients that may be 1e-3 of the largest, in each step."""
SINGLE = 1e-2
"""Of float32, as a share of the largest output: Adam makes whole steps of gradients that are little but rounding."""
SHARDED = ("fsdp2", "zero2")


def play(*engines: str) -> dict[str, Tensor]:
    """The game in float64, whole and in two micro-batches, and in float32 on every named engine."""
    recipe, results = stacked_recipe(), dict[str, Tensor]()
    for micro_batches in (1, 2):
        played = started(recipe, dtype=torch.float64, micro_batches=micro_batches)
        found = steps(played, count=COUNT) | judged(played)
        results |= {f"{micro_batches}/{key}": value for key, value in found.items()}
    for engine in engines:
        played = started(recipe, engine=engine)
        results |= {f"{engine}/{key}": value for key, value in (steps(played, count=COUNT) | judged(played)).items()}
        for player in played.state.players.values():
            player.close()
    return results


def relative(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str) -> float:
    """The largest difference of any output, as a share of its largest number: those of a few steps are small."""
    names = [name for name in a if name.startswith(prefix)]
    assert len(names) == 7
    return max(float((a[name] - b[name]).abs().max() / a[name].abs().max()) for name in names)


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Tensor]]:
    return {1: run_ranks(play, 1, "ddp")[0], 2: run_ranks(play, 2, *SHARDED)[0]}


@pytest.mark.distributed
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_processes_train_as_one_does(results: dict[int, dict[str, Tensor]], micro_batches: int) -> None:
    scores = largest_difference(results[1], results[2], f"{micro_batches}/scores/")
    made = relative(results[1], results[2], f"{micro_batches}/outputs/")
    print(f"{micro_batches} micro-batch(es), 1 and 2 processes, float64: scores {scores:.1e}, outputs {made:.1e}")
    assert scores < TOLERANCE
    assert made < TOLERANCE


@pytest.mark.distributed
@pytest.mark.parametrize("engine", SHARDED)
def test_sharded_engines_train_it(results: dict[int, dict[str, Tensor]], engine: str) -> None:
    expected = {key.removeprefix("ddp/"): value for key, value in results[1].items() if key.startswith("ddp/")}
    found = {key.removeprefix(f"{engine}/"): v for key, v in results[2].items() if key.startswith(f"{engine}/")}
    assert expected.keys() == found.keys()
    first = max(float((expected[key] - found[key]).abs()[0]) for key in expected if key.startswith("scores/loss/"))
    made = relative(expected, found, "outputs/")
    print(f"{engine}, 2 processes against 1, float32: losses of the first step {first:.1e}, outputs {made:.1e}")
    assert first < 1e-5
    assert made < SINGLE


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_before_at_and_after_the_switch_it_is_equal_to_the_bit(stop: int, tmp_path: Path) -> None:
    recipe = stacked_recipe()
    straight, stopped, again = (started(recipe) for _ in range(3))
    steps(straight, count=COUNT)
    steps(stopped, count=stop)
    with Writer(tmp_path, rank=0, world=1, token="t", retention=Retention(last=1)) as writer:
        record = {"players": stopped.state.record()}
        writer.save(stop, stopped.state.slices(own=True, buffers=True), documents={}, record=record)
    again.state.restore(Checkpoint.open(tmp_path / str(stop)))
    steps(again, begin=stop * recipe.batch_size, count=COUNT - stop)
    expected = {part.key: part.values for part in straight.state.slices(own=True, buffers=True)}
    assert any("running_mean" in key for key in expected)
    assert not any("encoder" in key for key in expected)
    for part in again.state.slices(own=True, buffers=True):
        assert torch.equal(part.values, expected.pop(part.key)), part.key
    assert not expected
