"""BigGAN's sampling tricks on BigGAN's own generator: truncation by resampling, standing statistics."""

import pytest
import torch
from torch import nn

from framework.networks import biggan, biggan_deep
from framework.networks.blocks.norm import BatchNorm2d
from framework.sampling.generate import generate, settle_statistics
from framework.sampling.latents import latents

CLASSES = 3


@pytest.fixture(params=["hierarchical", "deep"])
def generator(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "deep":
        return biggan_deep.Generator(resolution=32, classes=CLASSES, width=4, z_dim=8, depth=1)
    return biggan.Generator(resolution=32, classes=CLASSES, width=2, z_dim=8)


def test_truncation_bounds_every_chunk_and_keeps_what_is_inside(generator: nn.Module) -> None:
    free = latents(seed=1, count=40, z_dim=generator.z_dim)
    truncated = latents(seed=1, count=40, z_dim=generator.z_dim, truncation=0.5)
    assert free.abs().max() > 1 > 0.5 >= truncated.abs().max()
    inside = free.abs() <= 0.5
    assert torch.equal(truncated[inside], free[inside])
    # Resampled, not clipped: nothing piles up at the bound, and the variance is that of a truncated normal.
    assert (truncated.abs() == 0.5).sum() == 0
    assert truncated.std().item() == pytest.approx(0.2839, rel=0.1)
    images = generate(generator.eval(), truncated[:4], torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 3, 32, 32)


def test_truncated_images_vary_less(generator: nn.Module) -> None:
    labels = torch.zeros(32, dtype=torch.int64)
    settle_statistics(generator.eval(), classes=CLASSES, num_batches=2, seed=0, batch_size=16)
    spread = {}
    for truncation in (None, 0.2):
        z = latents(seed=1, count=32, z_dim=generator.z_dim, truncation=truncation)
        spread[truncation] = generator(z, labels).std(0).mean()
    assert spread[0.2] < 0.6 * spread[None]


def test_standing_statistics_are_averages_over_batches_of_latents_and_labels(generator: nn.Module) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    norms = {name: module for name, module in generator.named_modules() if isinstance(module, BatchNorm2d)}
    for name, norm in norms.items():
        norm.register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, []).append(inputs[0].mean((0, 2, 3)))
        )
    settle_statistics(generator.eval(), classes=CLASSES, num_batches=3, seed=7, batch_size=8)
    for name, norm in norms.items():
        assert len(seen[name]) == 3
        torch.testing.assert_close(norm.running_mean, torch.stack(seen[name]).mean(0))


def test_after_settling_an_image_does_not_depend_on_its_batch(generator: nn.Module) -> None:
    settle_statistics(generator.eval(), classes=CLASSES, num_batches=2, seed=0, batch_size=8)
    z, labels = latents(seed=2, count=4, z_dim=generator.z_dim), torch.tensor([0, 1, 2, 0])
    together, alone = generator(z, labels), generator(z[:1], labels[:1])
    torch.testing.assert_close(together[:1], alone)
