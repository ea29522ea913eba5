"""Transfer learning: a new run begins with another one's networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from framework import Network
from framework.checkpoint import Retention, TensorSlice, Writer
from framework.networks import sagan
from framework.train.players import initialise_from
from framework.utils.errors import FrameworkError
from tests.helpers.play import Played, small_recipe, start, steps


def write(played: Played, folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A checkpoint of what was played, less the keys that begin with one of `without`."""

    def slices() -> list[TensorSlice]:
        return [p for p in played.state.slices(own=True, buffers=True) if not p.key.startswith(without)]

    with Writer(folder, rank=0, world=1, token="t", retention=Retention(last=1)) as writer:
        writer.save(24, slices(), documents={}, record={"players": played.state.record()})
    return folder


@pytest.fixture
def source() -> Played:
    played = start(small_recipe())
    steps(played, count=2)
    return played


def test_weights_averages_and_buffers_are_taken_over_and_moments_begin_anew(source: Played, tmp_path: Path) -> None:
    fresh = start(small_recipe(seed=1))
    initialise_from(write(source, tmp_path), fresh.state)
    expected = {tensor_slice.key: tensor_slice.values for tensor_slice in source.state.slices(own=True, buffers=True)}
    for tensor_slice in fresh.state.slices(own=True, buffers=True):
        if "/exp_avg" in tensor_slice.key:
            assert not tensor_slice.values.any(), tensor_slice.key
        else:
            assert torch.equal(tensor_slice.values, expected[tensor_slice.key]), tensor_slice.key
    assert fresh.game.players["generator"].steps_taken() == 0
    steps(fresh, count=1)


def test_an_average_serves_for_weights_and_a_missing_player_stays_fresh(
    source: Played, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = start(small_recipe(seed=1))
    before = {p.key: p.values.clone() for p in fresh.state.slices(own=True, buffers=True)}
    folder = write(source, tmp_path, without=("generator/weight", "generator/buffer", "discriminator"))
    initialise_from(folder, fresh.state)
    average = {f"generator/weight/{n}": w for (n, _), w in source.game.averages["generator"].weights.items()}
    for tensor_slice in fresh.state.slices(own=True, buffers=True):
        if tensor_slice.key.startswith("generator/weight"):
            assert torch.equal(tensor_slice.values, average[tensor_slice.key]), tensor_slice.key
        elif tensor_slice.key.startswith("discriminator"):
            assert torch.equal(tensor_slice.values, before[tensor_slice.key]), tensor_slice.key
    assert "has no discriminator: it starts freshly initialised" in caplog.text


def test_another_network_is_refused(source: Played, tmp_path: Path) -> None:
    recipe = small_recipe()
    wider = replace(recipe, generator=replace(recipe.generator, network=Network(sagan.Generator, width=8, z_dim=8)))
    with pytest.raises(
        FrameworkError, match=r"generator/weight/linear.bias with shape \(256,\), the network has \(512,\)"
    ):
        initialise_from(write(source, tmp_path), start(wider).state)
