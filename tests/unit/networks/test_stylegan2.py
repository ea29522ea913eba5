from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework.games.microbatch import ImageDraws
from framework.networks import stylegan2
from framework.networks.blocks.mapping import Mapping
from framework.networks.blocks.moving import advance
from framework.runtime.seeding import Draws
from framework.utils.errors import FrameworkError

SMALL = {"resolution": 16, "channel_base": 64, "channel_max": 8}
STYLE = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2}


def seeded(cls: type[nn.Module], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return cls(**SMALL, **(STYLE if cls is stylegan2.Generator else {}), **options).double()


def draws(rows: slice, *, images_seen: int = 0) -> ImageDraws:
    """Of a global batch of 16."""
    return ImageDraws(
        draws=Draws(seed=0, images_seen=images_seen),
        purpose="test",
        batch_size=16,
        rows=rows,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def latents(count: int = 4) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("classes", [0, 3])
def test_every_architecture_trains_all_its_parameters(architecture: str, classes: int) -> None:
    generator = seeded(stylegan2.Generator, architecture=architecture, classes=classes, channels=1)
    discriminator = seeded(stylegan2.Discriminator, architecture=architecture, classes=classes, channels=1)
    labels = torch.tensor([0, 1, 2, 1]) if classes else None
    images = generator(latents(), labels, **generator.stochastic(draws(slice(0, 4))))
    assert images.shape == (4, 1, 16, 16)
    logits = discriminator(images, labels)
    assert logits.shape == (4,)
    # A constant bias of the logits has no gradient in a difference of logits; squares see it.
    logits.square().sum().backward()
    for network in (generator, discriminator):
        untouched = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not untouched, f"no gradient reaches {untouched}"


def test_labels_may_be_weights_over_classes() -> None:
    generator, discriminator = (seeded(c, classes=3) for c in (stylegan2.Generator, stylegan2.Discriminator))
    labels = torch.tensor([0, 2, 1, 1])
    one_hot = torch.eye(3)[labels]
    images = generator(latents(), labels)
    assert torch.equal(images, generator(latents(), one_hot))
    assert torch.equal(discriminator(images, labels), discriminator(images, one_hot))
    assert not torch.equal(images, generator(latents(), labels.flip(0)))
    with pytest.raises(FrameworkError, match="classes=3"):
        generator(latents())


def test_conditional_logit_is_the_scaled_inner_product_with_the_mapped_label() -> None:
    discriminator = seeded(stylegan2.Discriminator, classes=3, mapping_width=5, mapping_layers=2)
    outputs: list[Tensor] = []
    discriminator.head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    labels = torch.tensor([2, 0])
    logits = discriminator(torch.randn(2, 3, 16, 16, dtype=torch.float64), labels)
    assert outputs[0].shape == (2, 5)
    expected = (outputs[0] * discriminator.mapping(None, labels)).sum(1) / 5**0.5
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-14)


def test_stochastic_inputs_are_a_function_of_the_draws() -> None:
    generator = seeded(stylegan2.Generator, style_mixing=0.5)
    for block in generator.synthesis.blocks.values():
        for layer in (block.conv0, block.conv1):
            if layer is not None:
                nn.init.ones_(layer.noise_strength)
    z = latents(16)
    torch.manual_seed(1)
    whole = generator(z, **generator.stochastic(draws(slice(0, 16))))
    torch.manual_seed(2)
    parts = [generator(z[rows], **generator.stochastic(draws(rows))) for rows in (slice(0, 5), slice(5, 16))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    later = generator(z, **generator.stochastic(draws(slice(0, 16), images_seen=64)))
    assert (later - whole).abs().amax((1, 2, 3)).min() > 1e-3
    second, crossover = generator.stochastic(draws(slice(0, 16)))["mix"]
    assert second.shape == (16, 8)
    assert int(crossover.min()) >= 1
    assert 0 < int((crossover < generator.synthesis.num_ws).sum()) < 16


def test_mixing_takes_later_layers_from_the_second_latent() -> None:
    mapping = seeded(stylegan2.Generator).mapping
    one, other = latents(), latents().flip(0)
    ws = mapping(one, mix=(other, torch.tensor([1, 3, 6, 2])))
    assert torch.equal(ws[1, :3], mapping(one)[1, :3])
    assert torch.equal(ws[1, 3:], mapping(other)[1, 3:])
    assert torch.equal(ws[2], mapping(one)[2])


def test_truncation_draws_the_first_layers_towards_the_mean() -> None:
    mapping = seeded(stylegan2.Generator).mapping
    mapping.w_avg.value.normal_(generator=torch.Generator().manual_seed(3))
    ws = mapping(latents())
    truncated = mapping(latents(), psi=0.25, cutoff=2)
    expected = mapping.w_avg.value + 0.25 * (ws - mapping.w_avg.value)
    torch.testing.assert_close(truncated[:, :2], expected[:, :2])
    assert torch.equal(truncated[:, 2:], ws[:, 2:])
    assert torch.equal(mapping(latents(), psi=0.0)[0], mapping.w_avg.value.expand(6, -1))


def test_mean_style_follows_what_training_saw() -> None:
    generator = seeded(stylegan2.Generator, w_avg_keep=0.9)
    w = generator.mapping.styles(latents())
    mix = (latents().flip(0), torch.ones(4, dtype=torch.int64))
    generator(latents(), mix=mix)  # the second latents are not noted
    generator.eval()(10 * latents())
    advance(generator)
    torch.testing.assert_close(generator.mapping.w_avg.value, 0.1 * w.mean(0).detach(), rtol=1e-5, atol=1e-7)


def test_noise_is_stored_seeded_or_absent() -> None:
    generator = seeded(stylegan2.Generator)
    layer = generator.synthesis.blocks["16"].conv0
    nn.init.ones_(layer.noise_strength)
    z = latents()[:1].expand(2, -1)
    seeds = torch.tensor([5, 6])
    by_seed = generator(z, noise=seeds)
    assert torch.equal(by_seed, generator(z, noise=seeds))
    assert not torch.equal(by_seed[0], by_seed[1])
    const = generator(z, noise="const")
    assert torch.equal(const[0], const[1])
    assert not torch.equal(const, generator(z, noise="none"))
    assert not torch.equal(generator(z, noise="random"), generator(z, noise="random"))


def test_coarse_resolutions_stay_in_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    generator = stylegan2.Generator(**SMALL, **STYLE, num_half_precision=1)
    discriminator = stylegan2.Discriminator(**SMALL, num_half_precision=1)
    dtypes: dict[str, torch.dtype] = {}
    for name, network in (("G", generator.synthesis.blocks), ("D", discriminator.blocks)):
        for side, block in network.items():
            block.conv1.register_forward_hook(
                lambda module, inputs, output, key=name + side: dtypes.update({key: output.dtype})
            )
    z = latents().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(z)
        logits = discriminator(images)
    assert images.dtype == logits.dtype == torch.float32
    half, full = torch.bfloat16, torch.float32
    assert dtypes == {"G4": full, "G8": full, "G16": half, "D16": half, "D8": full}
    assert (images - generator(z)).abs().max() < 0.05 * images.abs().max()


def test_clamp_bounds_every_convolution() -> None:
    discriminator = seeded(stylegan2.Discriminator, conv_clamp=0.5)
    outputs: list[Tensor] = []
    for block in discriminator.blocks.values():
        block.conv0.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    discriminator(torch.full((2, 3, 16, 16), 100.0, dtype=torch.float64))
    assert outputs
    assert all(output.abs().max() <= 0.5 for output in outputs)


def test_names_by_side_allow_freezing_the_finest_layers() -> None:
    discriminator = seeded(stylegan2.Discriminator)
    names = [name for name, _ in discriminator.named_parameters()]
    assert names[:2] == ["blocks.16.from_image.weight", "blocks.16.from_image.bias"]
    assert {name.split(".")[0] for name in names} == {"blocks", "head"}
    assert {name.split(".")[1] for name in names if name.startswith("blocks")} == {"16", "8"}


def test_state_holds_no_resampling_filter() -> None:
    for network in (seeded(stylegan2.Generator), seeded(stylegan2.Discriminator)):
        assert not [name for name in network.state_dict() if "filter" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 24}, "resolution=24 .*power of two"),
        ({"channel_base": 8}, "channel_base=8"),
        ({"architecture": "dense"}, "architecture='dense'.*skip, resnet, orig"),
        ({"style_mixing": 1.5}, "style_mixing=1.5"),
        ({"z_dim": 0}, "z_dim=0"),
        ({"mapping_layers": 0}, "num_layers=0"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        stylegan2.Generator(**{**SMALL, **STYLE, **options})


def test_mapping_needs_something_to_map() -> None:
    with pytest.raises(FrameworkError, match="z_dim"):
        Mapping(z_dim=0, num_ws=None)
    joint = Mapping(z_dim=4, w_dim=4, num_ws=None, classes=2, num_layers=1, normalization="joint")
    each = Mapping(z_dim=4, w_dim=4, num_ws=None, classes=2, num_layers=1)
    each.load_state_dict(joint.state_dict())
    z, labels = torch.ones(1, 4), torch.tensor([1])
    assert joint(z, labels).shape == (1, 4)
    assert not torch.allclose(joint(z, labels), each(z, labels))
