"""Accumulation from an estimate of memory, per phase; and from what one process held before there were fewer."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch

import framework
from framework import SGD, RMSProp, Stepwise
from framework.networks import mlp
from framework.objectives.lecam import LeCam
from framework.objectives.penalties import R1
from framework.objectives.relativistic import RelativisticAverage, RelativisticCentered
from framework.recipe import Network, Recipe
from framework.train.config import RunConfig
from framework.train.dry_run import plan
from framework.train.memory import (
    OVER_A_MICRO_BATCH,
    MicroBatching,
    activation_bytes,
    fewest_micro_batches,
    kept_micro_batches,
    largest_share,
    over_a_micro_batch,
)
from framework.utils.errors import FrameworkError
from tests.helpers import newcomers
from tests.helpers.play import small_recipe
from tests.recipes.smooth import RECIPE as NORMALISED
from tests.recipes.tiny_progan import RECIPE as GROWING
from tests.recipes.unnormalised import RECIPE as UNNORMALISED


def test_the_fewest_micro_batches_that_fit() -> None:
    recipe = small_recipe()  # a global batch of 12
    segment = recipe.segments()[0]
    networks = {side: recipe.build_network(side) for side in ("generator", "discriminator")}
    networks = {side: network.to("meta") for side, network in networks.items()}

    for images, world, expected in ((12, 1, 1), (11, 1, 2), (6, 1, 2), (5, 1, 3), (1, 1, 12), (6, 2, 1), (1, 2, 6)):
        found = fewest_micro_batches(
            recipe, segment, RunConfig(), world=world, usable=activation_bytes(networks, recipe, images)
        )
        assert found == expected
        assert largest_share(12, micro_batches=found, world=world) <= images
    assert (
        fewest_micro_batches(
            recipe, segment, RunConfig(micro_batches=4), world=1, usable=activation_bytes(networks, recipe, 12)
        )
        == 4
    )


def test_the_estimate_has_as_many_moments_as_the_optimisers_keep() -> None:
    recipe = small_recipe()
    optimizers = {"generator": RMSProp(lr=1e-3), "discriminator": SGD(lr=1e-3)}
    players = {side: dataclasses.replace(getattr(recipe, side), optimizer=o) for side, o in optimizers.items()}
    report = plan(dataclasses.replace(recipe, **players), RunConfig(), world=1, device=torch.device("cpu"))
    assert report["memory_bytes_per_process"]["optimizer"] == 4 * report["parameters"]["generator"]


def test_finer_phases_need_more_accumulation() -> None:
    budget = 16 * 1024 * 40
    segments = [segment for segment in GROWING.segments() if segment.fading]
    found = [fewest_micro_batches(GROWING, s, RunConfig(), world=1, usable=budget) for s in segments]
    print("micro-batches at 8, 16, 32 px:", found)
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_where_not_even_one_image_fits_it_says_so() -> None:
    segment = GROWING.segments()[-1]
    with pytest.raises(FrameworkError, match=r"--auto-micro-batch: one image of 32x32 takes about .*, usable is"):
        fewest_micro_batches(GROWING, segment, RunConfig(), world=1, usable=1000)


def kept(recipe: Recipe, *, before: MicroBatching | None, world: int, micro_batches: int = 1) -> tuple[int, str]:
    config = RunConfig(micro_batches=micro_batches)
    return kept_micro_batches(recipe, recipe.segments()[0], config, world=world, before=before)


@pytest.mark.parametrize(
    ("before", "world", "given", "expected"),
    [
        ((2, 1), 1, 1, 2),
        ((4, 1), 3, 1, 2),
        ((4, 2), 2, 2, 4),
        ((4, 2), 1, 2, 8),
        ((16, 1), 1, 1, 16),
        ((16, 1), 9, 1, 1),
    ],
)
def test_fewer_processes_hold_no_more_images_than_before(
    before: tuple[int, int], world: int, given: int, expected: int
) -> None:
    """In as few micro-batches as that takes. The last case: 16 images cannot be cut so that each of 9 has one."""
    cut = MicroBatching(world=before[0], micro_batches=before[1])
    found, why = kept(UNNORMALISED, before=cut, world=world, micro_batches=given)
    assert found == expected
    held = largest_share(16, micro_batches=cut.micro_batches, world=cut.world)
    now = largest_share(16, micro_batches=found, world=world)
    assert now <= held or (found == 16 // world and now == 2)
    assert f"{world} process(es) instead of {cut.world}" in why
    assert f"{found} micro-batch(es)" in why


def test_as_many_or_more_processes_or_a_new_run_keep_the_flag() -> None:
    for before, world in (
        (None, 1),
        (MicroBatching(world=2, micro_batches=4), 2),
        (MicroBatching(world=2, micro_batches=4), 3),
    ):
        assert kept(UNNORMALISED, before=before, world=world) == (1, "")


def test_what_is_computed_over_a_micro_batch_goes_before_memory() -> None:
    found, why = kept(NORMALISED, before=MicroBatching(world=2, micro_batches=1), world=1)
    assert found == 1
    assert "each now holds up to 16 images at once instead of 8" in why
    assert "change what BatchNorm2d computes" in why
    assert over_a_micro_batch(UNNORMALISED) == []
    assert over_a_micro_batch(GROWING) == ["MinibatchStddev"]
    torchs = dataclasses.replace(UNNORMALISED.discriminator, network=Network(newcomers.TorchSpectralNorm))
    assert over_a_micro_batch(dataclasses.replace(UNNORMALISED, discriminator=torchs)) == ["torch's spectral norm"]
    game = dataclasses.replace(
        UNNORMALISED.game, loss=RelativisticAverage(), discriminator_terms=(R1(weight=1.0), LeCam())
    )
    assert over_a_micro_batch(dataclasses.replace(UNNORMALISED, game=game)) == ["LeCam", "RelativisticAverage"]
    game = dataclasses.replace(UNNORMALISED.game, loss=RelativisticCentered())
    assert over_a_micro_batch(dataclasses.replace(UNNORMALISED, game=game)) == ["RelativisticCentered"]
    best = dataclasses.replace(UNNORMALISED.game, top_k=Stepwise(factor=0.9, every_images=100, least=0.5))
    assert over_a_micro_batch(dataclasses.replace(UNNORMALISED, game=best)) == ["top-k training"]
    network = Network(mlp.Discriminator, kernels=3)
    compared = dataclasses.replace(UNNORMALISED.discriminator, network=network)
    found = over_a_micro_batch(dataclasses.replace(UNNORMALISED, discriminator=compared))
    assert found == ["MinibatchDiscrimination"]


def test_everything_that_sums_over_processes_is_known() -> None:
    """A new layer or loss that looks across images must be listed, or a lost machine would silently change it."""
    package, known = Path(framework.__file__).parent, {Path(inspect.getfile(one)) for one in OVER_A_MICRO_BATCH}
    rooms = [*(package / "networks").rglob("*.py"), *(package / "objectives").rglob("*.py")]
    sums = {path for path in rooms if "runtime.collectives import" in path.read_text()}
    # The means of the first are moved once per turn, by the sum over all micro-batches; the second looks across images
    # with `top_k` alone, which is told apart by that field.
    assert sums - known == {package / "networks/blocks/moving.py", package / "objectives/adversarial_term.py"}
