"""The StyleGAN2 recipes: parameter counts as `--dry-run` reports them, and the papers' tables written out once more."""

from __future__ import annotations

import json

import pytest

from benchmarks.recipes import load_recipe
from framework.objectives.adversarial import NonSaturating
from framework.objectives.path_length import PathLength
from framework.objectives.penalties import R1
from framework.recipe.override import apply
from tests.helpers.launch import ROOT
from tests.helpers.parameters import counts

KNOWN = {
    "stylegan2_ffhq1024": (30_370_060, 29_012_513),
    "stylegan2_ffhq256": (24_767_458, 24_001_089),
    "stylegan2_cifar10": (19_947_539, 20_720_641),
}


@pytest.mark.parametrize("name", KNOWN)
def test_dry_run_counts_the_known_parameters(name: str) -> None:
    assert counts(load_recipe(name)) == KNOWN[name]


def test_labels_make_the_cifar_recipe_conditional() -> None:
    assert counts(apply(load_recipe("stylegan2_cifar10"), ["data.classes=10"])) == (20_215_315, 23_089_664)


# Batch, images, learning rate, R1's gamma, path length's weight, half-life, its ramp, minibatch deviation over, clamp.
TABLE = {
    "stylegan2_ffhq1024": (32, 25_000_000, 0.002, 10.0, 2.0, 10_000, None, 4, None),
    "stylegan2_ffhq256": (64, 25_000_000, 0.0025, 1.0, 2.0, 20_000, None, 8, 256.0),
    "stylegan2_cifar10": (64, 100_000_000, 0.0025, 0.01, None, 500_000, 0.05, 32, 256.0),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_papers_tables(name: str) -> None:
    ours = load_recipe(name)
    batch, images, lr, gamma, path_length, half_life, ramp_up, group, clamp = TABLE[name]
    assert (ours.name, ours.batch_size, ours.images) == (name, batch, images)
    assert ours.game.loss == NonSaturating()
    assert ours.game.lazy_steps
    assert ours.game.discriminator_terms == (R1(weight=gamma, every=16),)
    terms = () if path_length is None else (PathLength(weight=path_length, every=4, decay=0.01, shrink=2),)
    assert ours.game.generator_terms == terms
    assert (ours.averaging.half_life_images, ours.averaging.ramp_up) == (half_life, ramp_up)
    generator, discriminator = (p.network.resolved(ours.data.derived()) for p in (ours.generator, ours.discriminator))
    assert discriminator["stddev_group_size"] == group
    assert generator["conv_clamp"] == discriminator["conv_clamp"] == clamp
    # arXiv:1912.04958, appendix B: lr' = c lr and beta' = beta^c with c = k / (k + 1), k = 4 and 16.
    for player, k in ((ours.generator, 4), (ours.discriminator, 16)):
        assert player.optimizer.lr == pytest.approx(lr * k / (k + 1))
        assert player.optimizer.betas == (0.0, pytest.approx(0.99 ** (k / (k + 1))))
        assert player.optimizer.eps == 1e-8


def test_cifar_tuning_leaves_out_what_the_paper_does() -> None:
    ours = load_recipe("stylegan2_cifar10")
    generator, discriminator = (p.network.resolved(ours.data.derived()) for p in (ours.generator, ours.discriminator))
    assert (generator["mapping_layers"], generator["style_mixing"]) == (2, 0.0)
    assert discriminator["architecture"] == "orig"
    assert (ours.data.classes, ours.data.flip) == (0, False)
    assert (ours.game.augment.preset, ours.game.augment.target, ours.game.augment.images) == ("bgc", 0.6, 500_000)


def test_emoji_are_vendored_and_small() -> None:
    ours = load_recipe("stylegan2_emoji")
    folder = ROOT / "recipes" / ours.data.location
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["count"], manifest["resolution"], manifest["channels"]) == (348, 64, 3)
    assert "Apache License, Version 2.0" in (folder / "NOTICE").read_text()
    assert max(counts(ours)) < 1_000_000
    larger = apply(ours, ["data.resolution=64"])
    assert counts(larger) > counts(ours)
