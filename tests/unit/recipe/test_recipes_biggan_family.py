"""The recipes of SNGAN, BigGAN and R3GAN: parameter counts as `--dry-run` reports them, and the papers' numbers."""

from __future__ import annotations

import math

import pytest

from benchmarks.recipes import load_recipe
from framework.objectives.penalties import R1, R2, Orthogonal
from framework.recipe.override import apply
from framework.recipe.schedules import value_at
from tests.helpers.parameters import counts

KNOWN = {
    "sngan_cifar10": (4_276_739, 1_053_825),
    "biggan_imagenet128": (70_433_988, 87_982_370),
    "r3gan_cifar10": (20_781_952, 21_280_512),
}


@pytest.mark.parametrize("name", KNOWN)
def test_dry_run_counts_the_known_parameters(name: str) -> None:
    assert counts(load_recipe(name)) == KNOWN[name]


def test_labels_make_sngan_the_projection_variant() -> None:
    assert counts(apply(load_recipe("sngan_cifar10"), ["data.classes=10"])) == (4_304_387, 1_055_105)


def test_without_labels_r3gan_is_the_unconditional_variant() -> None:
    assert counts(apply(load_recipe("r3gan_cifar10"), ["data.classes=0"])) == (20_732_160, 20_683_776)


def test_sngans_learning_rate_falls_to_zero_over_100k_generator_steps() -> None:
    recipe = load_recipe("sngan_cifar10")
    assert recipe.images == 100_000 * 5 * 64 == recipe.game.images_per_step(64) * 100_000
    for player in (recipe.generator, recipe.discriminator):
        assert [player.schedule.at(images) for images in (0, recipe.images // 2, recipe.images)] == [1.0, 0.5, 0.0]
        assert (player.optimizer.lr, player.optimizer.betas) == (2e-4, (0.0, 0.9))


def test_biggans_average_keeps_the_papers_share_per_step() -> None:
    recipe = load_recipe("biggan_imagenet128")
    step = recipe.game.images_per_step(recipe.batch_size)
    assert step == 4096
    kept = [recipe.averaging.kept_share(images_seen=n * step, step_images=step) for n in (20_000, 20_001, 150_000)]
    assert kept[0] == 0.0
    assert kept[1:] == [pytest.approx(0.9999, abs=1e-12)] * 2
    assert recipe.game.generator_terms[0].weight == 1e-4
    assert isinstance(recipe.game.generator_terms[0], Orthogonal)
    assert not recipe.game.discriminator_terms


def cosine(start: float, end: float, images_seen: int) -> float:
    """Table 9's schedules, written once more."""
    decayed = 0.5 * (1 + math.cos(math.pi * min(images_seen, 20_000_000) / 20_000_000))
    return end + (start - end) * decayed


@pytest.mark.parametrize("images_seen", [0, 5_000_000, 12_345_678, 20_000_000, 200_000_000])
def test_r3gan_burns_in_along_one_cosine(images_seen: int) -> None:
    recipe = load_recipe("r3gan_cifar10")
    for player in (recipe.generator, recipe.discriminator):
        assert player.optimizer.lr * player.schedule.at(images_seen) == pytest.approx(cosine(2e-4, 5e-5, images_seen))
        betas = player.optimizer.hyperparameters_at(images_seen)["betas"]
        assert betas == (0.0, pytest.approx(cosine(0.9, 0.99, images_seen)))
    assert [type(term) for term in recipe.game.discriminator_terms] == [R1, R2]
    for term in recipe.game.discriminator_terms:
        assert term.every == 1
        assert term.weight.at(images_seen) == pytest.approx(cosine(0.05, 0.005, images_seen))
    assert recipe.game.augment.every is None
    assert value_at(recipe.game.augment.start, images_seen) == pytest.approx(cosine(0.0, 0.55, images_seen))
    half_life = cosine(0.0, 5_000_000, images_seen)
    kept = recipe.averaging.kept_share(images_seen=images_seen, step_images=512)
    assert kept == pytest.approx(0.5 ** (512 / half_life) if images_seen else 0.0)
    assert recipe.game.fake_labels == "real"


def test_r3gan_augments_colours_by_half_and_cuts_out() -> None:
    multipliers = load_recipe("r3gan_cifar10").game.augment.multipliers
    halves = {"brightness", "contrast", "luma_flip", "hue", "saturation"}
    assert {name for name, value in multipliers.items() if value == 0.5} == halves
    assert {name for name, value in multipliers.items() if value == 0.0} == {"image_filter", "noise"}
    assert {value for name, value in multipliers.items()} == {0.0, 0.5, 1.0}
    assert multipliers["cutout"] == 1.0
