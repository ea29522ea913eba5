"""What happened since the last point of the log, through a checkpoint and onto other numbers of processes."""

from __future__ import annotations

import json
import math

import pytest
import torch

from framework.games.metrics import Metrics
from framework.runtime.session import Session
from framework.runtime.straggling import StepTimer
from framework.train.loop import Window

CPU = torch.device("cpu")
SESSION = Session(rank=0, local_rank=0, world=1, local_world=1, device=CPU)


def step(value: float) -> Metrics:
    metrics = Metrics()
    metrics.add("loss/D", torch.tensor(value))
    metrics.add("grad_norm/D", value / 3)
    return metrics


def window(*values: float) -> Window:
    one = Window(timer=StepTimer(CPU))
    for value in values:
        one.add(step(value), wait_seconds=0.1, skipped_samples=0)
    return one


@pytest.mark.parametrize("cut", range(5))
def test_a_window_that_went_through_a_checkpoint_ends_with_the_same_bits(cut: int) -> None:
    values = [0.1, 0.7, 1e-9, 1e9, 0.3]
    resumed = window()
    resumed.restore(json.loads(json.dumps(window(*values[:cut]).state(SESSION), allow_nan=False)), rank=0, world=1)
    resumed.begin(images_seen=64)
    for value in values[cut:]:
        resumed.add(step(value), wait_seconds=0.1, skipped_samples=0)
    assert resumed.metrics.means(device=CPU) == window(*values).metrics.means(device=CPU)
    assert (resumed.steps, resumed.first_image) == (5, 64)


def test_a_score_that_is_not_finite_goes_through_json() -> None:
    resumed = window()
    resumed.restore(json.loads(json.dumps(window(math.inf, 1.0).state(SESSION), allow_nan=False)), rank=0, world=1)
    assert resumed.metrics.means(device=CPU)["loss/D"] == math.inf


def test_an_older_checkpoint_begins_a_new_window() -> None:
    resumed = window(1.0)
    resumed.restore({}, rank=0, world=1)
    assert resumed.steps == 0
    assert resumed.metrics.means(device=CPU) == {}


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_on_any_number_of_processes_every_step_counts_alike(world: int) -> None:
    # Two processes had 3 and 1 of 4 images in each of 5 steps; their mean loss is (3 * 2 + 1 * 6) / 4.
    told = {
        "steps": 5,
        "scores": {"loss/D": [[(5 * 1.5 * 2.0).hex(), (7.5).hex()], [(5 * 0.5 * 6.0).hex(), (2.5).hex()]]},
    }
    total = weight = 0.0
    for rank in range(world):
        resumed = window()
        resumed.restore(told, rank=rank, world=world)
        assert resumed.steps == 5
        resumed.metrics.add("loss/D", 9.0)  # one more step
        mine = resumed.metrics.sums()["loss/D"]
        total, weight = total + mine[0], weight + mine[1]
    assert total / weight == pytest.approx((5 * 3.0 + 9.0) / 6, rel=1e-15)
    assert weight == 6 * world
