"""The replicated engine in one process: clipping, votes, loss scale, state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from framework import SGD, Adam, Optimizer, RMSProp
from framework.engines.base import forget_moments
from framework.engines.ddp import DDPEngine
from framework.engines.ema import EMA
from framework.engines.precision import LossScale
from framework.engines.weight_clipping import WeightClipping


def engine(**changes: object) -> DDPEngine:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    options = {"name": "discriminator", "optimizer": Adam(lr=0.1), "clip_norm": None, "precision": "fp32"} | changes
    return DDPEngine(network, **options)  # type: ignore[arg-type]


def weights(player: DDPEngine) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in player.network.named_parameters()}


def loss_of(player: DDPEngine) -> Tensor:
    return player.network(torch.arange(12.0).view(4, 3)).square().mean()


def test_a_step_equals_plain_adam_with_clipping() -> None:
    player, twin = engine(clip_norm=0.01), engine()
    optimizer = torch.optim.Adam(twin.network.parameters(), lr=0.05, betas=(0.0, 0.9))
    for _ in range(3):
        player.backward(loss_of(player), last=True)
        report = player.step(lr_factor=0.5)
        optimizer.zero_grad()
        loss_of(twin).backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.network.parameters(), 0.01)
        optimizer.step()
        assert report.finite
        assert report.grad_norm == pytest.approx(float(norm), rel=1e-6)
    for name, value in weights(player).items():
        assert torch.equal(value, dict(twin.network.named_parameters())[name])


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nothing_moves_when_the_loss_or_the_gradient_is_not_finite(where: str) -> None:
    player = engine()
    player.backward(loss_of(player), last=True)
    player.step(lr_factor=1.0)
    before, steps = weights(player), player.steps_taken()
    loss = loss_of(player)
    # A constant NaN has no gradient at all: only the vote on the loss can see it.
    player.backward(loss + float("nan") if where == "loss" else loss * float("inf"), last=True)
    assert not player.step(lr_factor=1.0).finite
    assert player.steps_taken() == steps
    for name, value in weights(player).items():
        assert torch.equal(value, before[name])
    player.backward(loss_of(player), last=True)
    assert player.step(lr_factor=1.0).finite  # nothing of the bad step is left in the gradients


def test_a_parameter_without_gradient_takes_a_step_with_zero() -> None:
    player = engine()
    for _ in range(2):
        first = player.network[0]
        player.backward(first(torch.ones(2, 3)).sum(), last=True)
        player.step(lr_factor=1.0)
    assert player.steps_taken() == 2
    moments = {f.name: f.values for f in player.slices(own=False, kinds=("exp_avg_sq",))}
    assert moments["2.weight"].eq(0).all()
    assert moments["0.weight"].gt(0).all()


def test_a_frozen_network_passes_gradients_through() -> None:
    player = engine()
    x = torch.ones(2, 3, requires_grad=True)
    with player.frozen() as network:
        network(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None and p.requires_grad for p in player.network.parameters())


@pytest.mark.parametrize(
    "optimizer",
    [Adam(lr=0.1), RMSProp(lr=0.1), RMSProp(lr=0.1, momentum=0.5), SGD(lr=0.1), SGD(lr=0.1, momentum=0.5)],
    ids=repr,
)
def test_state_written_through_fragments_is_the_state(optimizer: Optimizer) -> None:
    player, other = engine(optimizer=optimizer), engine(optimizer=optimizer)
    for _ in range(3):
        player.backward(loss_of(player), last=True)
        player.step(lr_factor=1.0)
    for mine, theirs in zip(player.slices(own=True), other.slices(own=False), strict=True):
        assert (mine.name, mine.kind) == (theirs.name, theirs.kind)
        theirs.values.copy_(mine.values)
    other.commit(steps_taken=player.steps_taken())
    other.network.load_state_dict(player.network.state_dict())
    assert other.steps_taken() == 3
    for one in (player, other):
        one.backward(loss_of(one), last=True)
        one.step(lr_factor=1.0)
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(player).items())
    assert other.steps_taken() == 4


@pytest.mark.parametrize("optimizer", [Adam(lr=0.1), RMSProp(lr=0.1), SGD(lr=0.1, momentum=0.5)], ids=repr)
def test_forgotten_moments_are_those_of_a_new_engine(optimizer: Optimizer) -> None:
    player, fresh = engine(optimizer=optimizer), engine(optimizer=optimizer)
    player.backward(loss_of(player), last=True)
    player.step(lr_factor=1.0)
    forget_moments(player)
    assert player.steps_taken() == 0
    fresh.network.load_state_dict(player.network.state_dict())
    for one in (player, fresh):
        one.backward(loss_of(one), last=True)
        one.step(lr_factor=1.0)
    assert player.steps_taken() == fresh.steps_taken() == 1
    assert all(torch.equal(value, weights(fresh)[name]) for name, value in weights(player).items())


def largest(player: DDPEngine) -> float:
    return max(float(value.abs().max()) for value in weights(player).values())


def test_weights_are_clipped_after_a_step_that_was_taken_and_by_no_other() -> None:
    player, twin = engine(weight_clipping=WeightClipping(0.2)), engine()
    average = EMA(player)
    # Initial weights are left alone, and so are those of a step that is skipped.
    assert largest(player) > 0.2
    player.begin_turn()
    player.backward(loss_of(player) * float("inf"), last=True)
    assert not player.step(lr_factor=1.0).finite
    assert all(torch.equal(value, weights(twin)[name]) for name, value in weights(player).items())
    for one in (player, twin):
        one.network.load_state_dict(twin.network.state_dict())
        one.backward(loss_of(one), last=True)
        assert one.step(lr_factor=0.1).finite
    assert largest(twin) > 0.2
    for name, value in weights(player).items():
        assert torch.equal(value, weights(twin)[name].clamp(-0.2, 0.2))
    # The average sees clipped weights.
    average.update(kept_share=0.0)
    assert torch.equal(average.weights["0.weight", 0], weights(player)["0.weight"].view(-1))


def test_weights_are_clipped_before_a_turn() -> None:
    player, twin = engine(weight_clipping=WeightClipping(0.2, when="before")), engine()
    player.begin_turn()
    with torch.no_grad():
        for parameter in twin.network.parameters():
            parameter.clamp_(-0.2, 0.2)
    for one in (player, twin):
        one.backward(loss_of(one), last=True)
        one.step(lr_factor=1.0)
    assert largest(player) > 0.2  # the step took them out of the box
    assert all(torch.equal(value, weights(twin)[name]) for name, value in weights(player).items())
    player.backward(loss_of(player), last=True)
    with pytest.raises(AssertionError, match="begin_turn"):
        player.step(lr_factor=1.0)


def test_fp16_scale_backs_off_and_grows_and_travels() -> None:
    scale = LossScale("fp16")
    scale.update(finite=False)
    assert scale.scale == 2.0**15
    for _ in range(LossScale.GROWTH_INTERVAL_STEPS):
        scale.update(finite=True)
    assert scale.scale == 2.0**16
    other = LossScale("fp16")
    other.load_state(scale.state())
    assert (other.scale, other.state()) == (scale.scale, scale.state())
    assert LossScale("bf16").state() == {}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_close_to_fp32(precision: str) -> None:
    exact, low = engine(), engine(precision=precision)
    for player in (exact, low):
        for _ in range(40):  # fp16 skips a few steps until its scale fits
            with player.autocast():
                loss = player.network(torch.arange(12.0).view(4, 3) / 12).float().square().mean()
            player.backward(loss, last=True)
            player.step(lr_factor=0.1)
            if player.steps_taken() == 5:
                break
        assert player.steps_taken() == 5
    assert next(low.network.parameters()).dtype == torch.float32
    for name, value in weights(low).items():
        if name != "0.bias":  # before a batch norm: its true gradient is 0, Adam walks it at random
            torch.testing.assert_close(value, weights(exact)[name], atol=0.01, rtol=0)  # one of 5 steps of lr = 0.01


def test_the_average_follows_weights_and_statistics_and_copies_the_rest() -> None:
    player = engine()
    average = EMA(player)
    first, statistic = weights(player)["0.weight"], average.buffers["1.running_mean"].clone()
    player.backward(loss_of(player), last=True)
    player.step(lr_factor=1.0)
    average.update(kept_share=0.75)
    now = dict(player.network.named_buffers())
    torch.testing.assert_close(
        average.weights["0.weight", 0], (0.75 * first + 0.25 * weights(player)["0.weight"]).view(-1)
    )
    torch.testing.assert_close(average.buffers["1.running_mean"], 0.75 * statistic + 0.25 * now["1.running_mean"])
    assert torch.equal(average.buffers["1.num_batches_tracked"], now["1.num_batches_tracked"])


def test_swapping_in_the_average_leaves_everything_as_it_was() -> None:
    player = engine()
    average = EMA(player)
    player.backward(loss_of(player), last=True)
    player.step(lr_factor=1.0)
    before, kept = weights(player), {k: v.clone() for k, v in average.weights.items()}
    with average.swapped_in() as network:
        assert not network.training
        assert torch.equal(network[0].weight.view(-1), kept["0.weight", 0])
    assert player.network.training
    assert all(torch.equal(value, before[name]) for name, value in weights(player).items())
    assert all(torch.equal(value, kept[key]) for key, value in average.weights.items())
