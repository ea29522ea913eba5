"""`--auto-micro-batch`: accumulation from an estimate of memory, per phase."""

from __future__ import annotations

import pytest

from framework.errors import FrameworkError
from framework.train.config import RunConfig
from framework.train.fitting import fewest_micro_batches
from framework.train.preflight import activation_bytes, largest_share
from tests.helpers.play import small_recipe
from tests.recipes.tiny_progan import RECIPE as GROWING


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
