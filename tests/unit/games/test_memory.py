"""What a game carries between turns: lazy steps, adaptive augmentation, penalties' memory; and frozen layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from framework import R1, Ada, Adam, Alternating, DiffAugment, Hinge, Ramp
from framework.checkpoint import Checkpoint, Retention, Writer
from framework.objectives.penalties import Penalty
from framework.objectives.terms import TermInputs
from framework.recipe import RecipeError
from tests.helpers.play import Played, small_recipe, smooth_recipe, start, steps, synthetic


@dataclass(frozen=True, kw_only=True)
class Counting(Penalty):
    """Counts its uses in the player's memory."""

    weight: float = 0.0
    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")

    def value(self, inputs: TermInputs) -> Tensor:
        inputs.memory["uses"] = inputs.memory.get("uses", torch.zeros((), dtype=torch.float64)) + 1
        assert inputs.z is not None
        return inputs.z.sum() * 0


@dataclass(frozen=True, kw_only=True)
class Pool(Penalty):
    """Keeps the first real samples of the newest turn and of the one before."""

    weight: float = 0.0

    def value(self, inputs: TermInputs) -> Tensor:
        if "pool/new" in inputs.memory:
            inputs.memory["pool/old"] = inputs.memory["pool/new"]
        inputs.memory["pool/new"] = inputs.tensor("real")[:2].clone()
        return inputs.tensor("z").sum() * 0


def believing(played: Played) -> Played:
    """The same with a discriminator that takes everything for real: what overfitting looks like to ADA."""
    with torch.no_grad():
        played.game.players["discriminator"].network.linear.bias.fill_(5.0)
    return played


def saved(played: Played, folder: Path, images_seen: int) -> Checkpoint:
    with Writer(folder, rank=0, world=1, token="t", retention=Retention(last=9)) as writer:
        slices = played.state.slices(own=True, buffers=True)
        writer.save(images_seen, slices, documents={}, record={"players": played.state.record()})
        writer.wait()
    return Checkpoint.open(folder / str(images_seen))


@pytest.mark.parametrize(("lazy", "expected"), [(False, 4), (True, 6)])
def test_lazy_penalties_get_steps_of_their_own(lazy: bool, expected: int) -> None:
    rules = Alternating(loss=Hinge(), discriminator_terms=(R1(weight=1.0, every=2),), lazy_steps=lazy)
    played = start(smooth_recipe(game=rules))
    metrics = steps(played, count=4)
    assert played.game.players["discriminator"].steps_taken() == expected
    assert played.game.players["generator"].steps_taken() == 4
    assert ("scores/grad_norm/D_lazy" in metrics) == lazy
    assert len(metrics["scores/penalty/R1"]) == 2


def test_adam_forgets_as_fast_with_the_extra_steps() -> None:
    # arXiv:1912.04958, appendix B: c = k / (k + 1); for k = 16 and betas (0, 0.99).
    corrected = Adam(lr=0.002, betas=(0.0, 0.99)).lazy(every=16)
    assert corrected.lr == pytest.approx(0.002 * 16 / 17)
    assert corrected.betas == (0.0, pytest.approx(0.99 ** (16 / 17)))
    # 17 steps with the corrected beta keep what 16 steps keep with the original one.
    assert corrected.betas[1] ** 17 == pytest.approx(0.99**16)


def test_an_adaptive_augmentation_follows_the_signs_of_real_logits() -> None:
    rules = Alternating(loss=Hinge(), augment=Ada(preset="blit", target=0.6, images=240, every=2))
    played = believing(start(smooth_recipe(game=rules)))
    batch = played.recipe.batch_size
    memory = played.game.memory["discriminator"]
    metrics = steps(played, count=3)
    # All signs are 1, above the target, so p rises by 2 * 12 images of 240.
    assert float(memory["augment/p"]) == pytest.approx(2 * batch / 240)
    assert metrics["scores/augment/p"].tolist() == pytest.approx([0.0, 0.0, 0.1])
    assert float(memory["augment/count"]) == batch, "one step noted since the adjustment"


def test_memory_goes_through_a_checkpoint(tmp_path: Path) -> None:
    rules = Alternating(
        loss=Hinge(),
        augment=Ada(preset="color", target=0.6, images=97, every=2),
        discriminator_terms=(Counting(),),
        generator_terms=(Counting(every=2),),
    )
    straight, stopped, again = (believing(start(smooth_recipe(game=rules))) for _ in range(3))
    steps(straight, count=5)
    steps(stopped, count=3)
    checkpoint = saved(stopped, tmp_path, images_seen=36)
    again.state.restore(checkpoint)
    steps(again, begin=36, count=2)
    assert again.game.memory == straight.game.memory
    assert float(again.game.memory["discriminator"]["uses"]) == 5
    assert float(again.game.memory["generator"]["uses"]) == 3
    assert 0 < float(again.game.memory["discriminator"]["augment/p"]) < 1
    expected = {one.key: one.values for one in straight.state.slices(own=True, buffers=True)}
    for one in again.state.slices(own=True, buffers=True):
        assert torch.equal(one.values, expected.pop(one.key)), one.key
    assert not expected


def test_tensors_that_terms_remember_are_pieces_of_a_checkpoint(tmp_path: Path) -> None:
    rules = Alternating(loss=Hinge(), discriminator_terms=(Pool(),))
    stopped, again = (start(smooth_recipe(game=rules)) for _ in range(2))
    steps(stopped, count=2)
    checkpoint = saved(stopped, tmp_path, images_seen=24)
    assert [*checkpoint.keys("discriminator/memory/")] == [
        f"discriminator/memory/pool/{which}" for which in ("new", "old")
    ]
    again.state.restore(checkpoint)
    found, expected = (played.game.memory["discriminator"] for played in (again, stopped))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        assert value.shape == (2, 1, 8, 8)


def test_a_step_that_is_not_finite_is_not_remembered() -> None:
    rules = Alternating(loss=Hinge(), discriminator_terms=(Counting(),), augment=Ada(preset="blit", every=4))
    played = start(smooth_recipe(game=rules))
    steps(played, count=1)
    before = {name: value.clone() for name, value in played.game.memory["discriminator"].items()}
    batches = synthetic(played.recipe, played.partition, 12)
    with torch.no_grad():
        next(played.game.players["generator"].network.parameters()).fill_(torch.nan)
    _, finite = played.game.step(batches, images_seen=12)
    assert not finite
    assert played.game.memory["discriminator"] == before


def test_diffaugment_stays_as_it_is() -> None:
    played = start(smooth_recipe(game=Alternating(loss=Hinge(), augment=DiffAugment())))
    assert steps(played, count=2)["scores/augment/p"].tolist() == [1.0, 1.0]
    assert played.game.memory["discriminator"] == {}


def test_frozen_layers_stay_and_are_saved(tmp_path: Path) -> None:
    recipe = small_recipe()
    recipe = replace(recipe, discriminator=replace(recipe.discriminator, frozen=("blocks.0", "linear")))
    played = start(recipe)
    network = played.game.players["discriminator"].network
    before = {name: p.clone() for name, p in network.named_parameters()}
    steps(played, count=2)
    changed = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    kept = set(before) - changed
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in kept if name.startswith("blocks")} == {"blocks.0"}
    assert any(name.startswith("linear") for name in kept)
    assert any(name.startswith("blocks.1") for name in changed)
    checkpoint = saved(played, tmp_path, images_seen=24)
    other = start(replace(recipe, seed=1))
    other.state.restore(checkpoint)
    for name, parameter in other.game.players["discriminator"].network.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name


@pytest.mark.parametrize(
    ("frozen", "message"), [(("block.0",), "no 'block.0'; nearest: blocks.0"), (("conv",), "the network has no 'conv'")]
)
def test_freezing_what_there_is_not_is_refused(frozen: tuple[str, ...], message: str) -> None:
    recipe = small_recipe()
    recipe = replace(recipe, discriminator=replace(recipe.discriminator, frozen=frozen))
    with pytest.raises(RecipeError, match=message):
        recipe.build_network("discriminator")


def test_a_blur_hides_detail_from_the_discriminator_while_it_lasts() -> None:
    rules = Alternating(loss=Hinge(), blur=Ramp(start=2.0, end=0.0, images=24, shape="linear"))
    blurred, clear = (start(smooth_recipe(game=g)) for g in (rules, Alternating(loss=Hinge())))
    shown = [steps(played, count=1)["scores/logits/real"] for played in (blurred, clear)]
    assert not torch.equal(*shown)
    late = [
        steps(start(smooth_recipe(game=r)), begin=24, count=1)["scores/logits/real"] for r in (rules, clear.game.rules)
    ]
    assert torch.equal(*late)
