"""Recipes of growing networks against the tables of their papers, written out here a second time."""

import math

import pytest

from benchmarks.recipes import load_recipe
from framework.networks import progan, stylegan1
from framework.objectives.adversarial import NonSaturating, Wasserstein
from framework.objectives.penalties import R1, Drift, GradientPenalty
from framework.recipe import Recipe
from framework.recipe.growth import Phase


def rows(phases: tuple[Phase, ...]) -> list[tuple]:
    """(resolution, fade, stable, batch, factor on the learning rate) of every phase."""
    return [(p.resolution, p.fade_images, p.stable_images, p.batch_size, p.lr_factor) for p in phases]


def options(ours: Recipe, side: str) -> dict:
    """Every option with which a player's network is built."""
    return getattr(ours, side).network.resolved(ours.data.derived())


def test_progan_celebahq1024() -> None:
    ours = load_recipe("progan_celebahq1024")
    # arXiv:1710.10196, appendix A.1: 800k real images at 4x4, then in turn 800k to fade the next block in and 800k to
    # stabilise; minibatch 16 from 4^2 to 128^2, then 14 (256^2), 6 (512^2), 3 (1024^2); no learning rate decay.
    assert rows(ours.growth.phases) == [
        (4, 0, 800_000, 16, 1.0),
        (8, 800_000, 800_000, 16, 1.0),
        (16, 800_000, 800_000, 16, 1.0),
        (32, 800_000, 800_000, 16, 1.0),
        (64, 800_000, 800_000, 16, 1.0),
        (128, 800_000, 800_000, 16, 1.0),
        (256, 800_000, 800_000, 14, 1.0),
        (512, 800_000, 800_000, 6, 1.0),
        (1024, 800_000, 800_000, 3, 1.0),
    ]
    assert ours.images == 17 * 800_000
    # Adam: alpha 0.001, beta1 0, beta2 0.99, epsilon 1e-8.
    for player in (ours.generator, ours.discriminator):
        assert (player.optimizer.lr, player.optimizer.betas, player.optimizer.eps) == (0.001, (0.0, 0.99), 1e-8)
        assert player.schedule.at(10_000_000) == 1.0
    # WGAN-GP with n_critic 1 and epsilon_drift 0.001; lambda 10 is Gulrajani et al.'s (arXiv:1704.00028).
    assert ours.game.loss == Wasserstein()
    assert ours.game.critic_steps == 1
    assert ours.game.discriminator_terms == (GradientPenalty(weight=10.0, target=1.0), Drift(weight=0.001))
    # The generator's running average decays by 0.999 per step, of 16 images.
    kept = ours.averaging.kept_share(images_seen=5_000_000, step_images=16)
    assert kept == pytest.approx(0.999, rel=1e-12)
    # Table 2.
    generator, discriminator = (options(ours, side) for side in ("generator", "discriminator"))
    assert (generator["z_dim"], generator["channel_base"], generator["channel_max"]) == (512, 16_384, 512)
    assert (discriminator["channel_base"], discriminator["channel_max"]) == (16_384, 512)
    # Section 3: the standard deviation is that of the whole minibatch, at every batch size.
    assert discriminator["group_size"] >= max(phase.batch_size for phase in ours.growth.phases)


def test_stylegan1_ffhq1024() -> None:
    ours = load_recipe("stylegan1_ffhq1024")
    # arXiv:1812.04958, appendix C: growing as in ProGAN, but from 8^2 images; batches, rates and 600k images per half
    # phase are those of the authors' program for eight GPUs.
    assert rows(ours.growth.phases) == [
        (8, 0, 600_000, 256, 1.0),
        (16, 600_000, 600_000, 128, 1.0),
        (32, 600_000, 600_000, 64, 1.0),
        (64, 600_000, 600_000, 32, 1.0),
        (128, 600_000, 600_000, 32, 1.5),
        (256, 600_000, 600_000, 32, 2.0),
        (512, 600_000, 600_000, 32, 3.0),
        (1024, 600_000, 600_000, 32, 3.0),
    ]
    # 25M images instead of 12M, and mirror augmentation for FFHQ.
    assert ours.images == 25_000_000
    assert ours.data.flip
    # The learning rates of the earlier paper: 0.001, and 0.003 at 512^2 and 1024^2.
    for player in (ours.generator, ours.discriminator):
        assert (player.optimizer.lr, player.optimizer.betas, player.optimizer.eps) == (0.001, (0.0, 0.99), 1e-8)
    # Non-saturating loss and R1 with gamma 10.
    assert ours.game.loss == NonSaturating()
    assert ours.game.critic_steps == 1
    assert ours.game.discriminator_terms == (R1(weight=10.0),)
    assert ours.averaging.kept_share(images_seen=1, step_images=10_000) == pytest.approx(0.5)
    # Eight fully connected layers, all activations 512; table 2: mixing in 90% of the images.
    generator = options(ours, "generator")
    assert [generator[name] for name in ("z_dim", "w_dim", "mapping_layers", "mixing_probability")] == [
        512,
        512,
        8,
        0.9,
    ]


def test_progan_fashion_is_small_and_grows_to_the_data() -> None:
    ours = load_recipe("progan_fashion")
    assert [phase.resolution for phase in ours.growth.phases] == [4, 8, 16, 32]
    assert ours.data.resolution == 32
    assert ours.images == ours.growth.images <= 200_000
    sizes = [sum(p.numel() for p in ours.build_network(side).parameters()) for side in ("generator", "discriminator")]
    assert max(sizes) < 400_000


@pytest.mark.parametrize(
    ("name", "networks"),
    [
        ("progan_celebahq1024", progan),
        ("progan_fashion", progan),
        ("stylegan1_ffhq1024", stylegan1),
    ],
)
def test_recipes_use_the_networks_they_name(name: str, networks) -> None:
    ours = load_recipe(name)
    assert ours.name == name
    assert ours.generator.network.cls is networks.Generator
    assert ours.discriminator.network.cls is networks.Discriminator
    last = ours.segments()[-1]
    assert (last.resolution, last.grown) == (ours.data.resolution, True)
    assert math.isclose(last.alpha(last.start), 1.0)
