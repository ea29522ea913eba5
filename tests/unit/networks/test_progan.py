import math

import pytest
import torch
from torch import Tensor, nn

from framework.networks import progan
from framework.networks.blocks.equalized import pixel_norm
from framework.networks.blocks.growing import doubled, feature_widths, halved
from framework.networks.blocks.minibatch import MinibatchStddev
from framework.objectives.penalties import r1
from framework.utils.errors import FrameworkError

PUBLIC = {
    32: (20_727_308, 20_726_785),
    64: (22_498_063, 22_498_049),
    128: (22_941_074, 22_941_313),
    256: (23_051_989, 23_052_353),
    1024: (23_086_795, 23_087_249),
}
"""Parameters of the generator and the discriminator that pytorch_GAN_zoo builds for a final resolution."""


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def players(*, resolution: int = 32, classes: int = 0, **options) -> tuple[progan.Generator, progan.Discriminator]:
    torch.manual_seed(0)
    sizes = {"resolution": resolution, "classes": classes, "channel_base": 128, "channel_max": 8}
    generator = progan.Generator(z_dim=8, **sizes).double()
    discriminator = progan.Discriminator(**sizes, **options).double()
    for network in (generator, discriminator):  # biases start at zero, where mistakes about them do not show
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    return generator, discriminator


def latents(count: int = 4) -> Tensor:
    return torch.randn(count, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def pictures(side: int, count: int = 4) -> Tensor:
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("resolution", PUBLIC)
def test_parameter_counts_are_those_of_public_implementations(resolution: int) -> None:
    generator_count, discriminator_count = PUBLIC[resolution]
    with torch.device("meta"):
        discriminator = progan.Discriminator(resolution=resolution)
        dense_bias = progan.Generator(resolution=resolution, bias_per_pixel=True)
        paper = progan.Generator(resolution=resolution)
    assert num_parameters(discriminator) == discriminator_count
    assert num_parameters(dense_bias) == generator_count
    # The authors' program has a bias per channel after the first layer, not per channel and pixel.
    assert num_parameters(paper) == generator_count - 15 * 512


def test_feature_maps_are_those_of_table_2() -> None:
    # arXiv:1710.10196, table 2: 4 to 32 px have 512 feature maps, then 256, 128, 64, 32, 16 up to 1024 px.
    sides = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert feature_widths(sides, channel_base=16_384, channel_max=512) == [512] * 4 + [256, 128, 64, 32, 16]
    with torch.device("meta"):
        generator = progan.Generator(resolution=1024)
        assert [layer.weight.shape[1] for layer in generator.to_rgb] == [512] * 4 + [256, 128, 64, 32, 16]
        assert generator(torch.zeros(2, 512)).shape == (2, 3, 1024, 1024)


def test_a_network_starts_fully_grown() -> None:
    generator, discriminator = players()
    assert generator.resolutions == discriminator.resolutions == (4, 8, 16, 32)
    assert (generator.resolution, generator.alpha) == (32, 1.0)
    images = generator(latents())
    assert images.shape == (4, 3, 32, 32)
    assert discriminator(images).shape == (4,)
    assert not any(True for _ in generator.buffers())  # growing leaves no trace in a checkpoint


@pytest.mark.parametrize("side", [8, 16, 32])
def test_alpha_0_is_the_resolution_before(side: int) -> None:
    generator, discriminator = players()
    z, images = latents(), pictures(side)
    generator.grow(resolution=side, alpha=0.0)
    discriminator.grow(resolution=side, alpha=0.0)
    faint, judged_faint = generator(z), discriminator(images)
    generator.grow(resolution=side // 2)
    discriminator.grow(resolution=side // 2)
    torch.testing.assert_close(faint, doubled(generator(z)), rtol=0, atol=0)
    torch.testing.assert_close(judged_faint, discriminator(halved(images)), rtol=0, atol=0)


def test_alpha_1_is_the_finest_path() -> None:
    generator, discriminator = players()
    z, images = latents(), pictures(16)
    expected = generator.start(pixel_norm(z))
    for block in generator.blocks[:2]:
        expected = block(expected)
    torch.testing.assert_close(generator(z, resolution=16), generator.to_rgb[2](expected), rtol=0, atol=0)
    features = torch.nn.functional.leaky_relu(discriminator.from_rgb[2](images), 0.2)
    expected = discriminator.end(discriminator.blocks[0](discriminator.blocks[1](features))).squeeze(1)
    torch.testing.assert_close(discriminator(images), expected, rtol=0, atol=0)


def test_fading_is_linear_in_the_generator_and_continuous_in_both() -> None:
    generator, discriminator = players()
    z, images = latents(), pictures(16)
    coarse, fine = (generator(z, resolution=16, alpha=alpha) for alpha in (0.0, 1.0))
    torch.testing.assert_close(generator(z, resolution=16, alpha=0.3), 0.7 * coarse + 0.3 * fine)
    for end, near in ((0.0, 1e-9), (1.0, 1.0 - 1e-9)):
        torch.testing.assert_close(discriminator(images, alpha=near), discriminator(images, alpha=end))
        torch.testing.assert_close(
            generator(z, resolution=16, alpha=near), generator(z, resolution=16, alpha=end), rtol=1e-7, atol=1e-7
        )
    assert not torch.allclose(discriminator(images, alpha=0.5), discriminator(images, alpha=0.0))


def test_what_a_call_says_wins_over_what_was_grown_to() -> None:
    generator, discriminator = players()
    z, images = latents(), pictures(16)
    generator.grow(resolution=16, alpha=0.25)
    discriminator.grow(resolution=16, alpha=0.25)
    assert torch.equal(generator(z), generator(z, resolution=16, alpha=0.25))
    assert not torch.equal(generator(z), generator(z, alpha=1.0))
    assert torch.equal(discriminator(images), discriminator(images, alpha=0.25))
    # Alpha belongs to the resolution grown to; coarser ones have been fully grown.
    assert torch.equal(generator(z, resolution=8), generator(z, resolution=8, alpha=1.0))
    assert torch.equal(discriminator(halved(images)), discriminator(halved(images), alpha=1.0))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_layers_off_the_path_have_no_gradient(alpha: float) -> None:
    generator, discriminator = players()
    generator.grow(resolution=16, alpha=alpha)
    discriminator.grow(resolution=16, alpha=alpha)
    discriminator(generator(latents())).sum().backward()
    level = 2
    images_of = {level} if alpha == 1.0 else {level - 1, level}
    missing = {
        f"{side}.{name}"
        for side, network in (("generator", generator), ("discriminator", discriminator))
        for name, parameter in network.named_parameters()
        if parameter.grad is None
    }
    expected = set()
    for side, network in (("generator", generator), ("discriminator", discriminator)):
        for name, _ in network.named_parameters():
            kind, index, *_ = name.split(".")
            if (kind == "blocks" and int(index) >= level) or (
                kind in ("to_rgb", "from_rgb") and int(index) not in images_of
            ):
                expected.add(f"{side}.{name}")
    assert missing == expected
    assert len(missing) == (20 if alpha == 1.0 else 16)


def test_every_layer_has_a_gradient_once() -> None:
    for network in players():
        assert len(network.resolutions) == len(network.blocks) + 1
    generator, discriminator = players()
    for side in generator.resolutions:
        discriminator(generator(latents(), resolution=side)).sum().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_features_of_the_generator_have_unit_mean_square() -> None:
    generator, _ = players()
    seen = []
    for module in (generator.start, *generator.blocks):
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    generator(latents())
    assert len(seen) == 4
    for features in seen:
        torch.testing.assert_close(features.square().mean(1), torch.ones_like(features[:, 0]))


def test_latents_lie_on_the_hypersphere() -> None:
    generator, _ = players()
    z = latents()
    torch.testing.assert_close(generator(z), generator(5 * z), rtol=1e-6, atol=1e-6)
    generator.normalize_latents = False
    assert not torch.allclose(generator(z), generator(5 * z))


def test_layers_start_with_the_gains_of_the_paper() -> None:
    with torch.device("meta"):
        generator, discriminator = progan.Generator(resolution=64), progan.Discriminator(resolution=64)
    # Section 4.1: He's constant sqrt(2 / fan_in). The first layer is a 4x4 convolution: 512 x 16 inputs.
    assert generator.start.dense.scale == pytest.approx(math.sqrt(2 / (512 * 16)))
    assert generator.start.conv.scale == pytest.approx(math.sqrt(2 / (512 * 9)))
    assert generator.blocks[3].conv1.scale == pytest.approx(math.sqrt(2 / (512 * 9)))
    assert generator.blocks[3].conv2.scale == pytest.approx(math.sqrt(2 / (256 * 9)))
    assert discriminator.from_rgb[4].scale == pytest.approx(math.sqrt(2 / 3))
    assert discriminator.end.conv.scale == pytest.approx(math.sqrt(2 / (513 * 9)))
    assert discriminator.end.dense.scale == pytest.approx(math.sqrt(2 / (512 * 16)))
    # Layers without a rectifier behind them.
    assert generator.to_rgb[4].scale == pytest.approx(math.sqrt(1 / 256))
    assert discriminator.end.output.scale == pytest.approx(math.sqrt(1 / 512))


def test_pixel_norm_gradients() -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(pixel_norm, (x,))
    assert torch.autograd.gradgradcheck(pixel_norm, (x,))


def test_whole_networks_have_second_derivatives() -> None:
    # Smooth where it is evaluated: a step of 1e-6 does not cross a kink of the rectifiers.
    _, discriminator = players(resolution=8)
    images = pictures(8, count=2)
    weight = discriminator.blocks[0].conv1.weight
    (analytic,) = torch.autograd.grad(r1(lambda x, _: discriminator(x, alpha=0.4), images), weight)
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    values, step = [], 1e-6
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(direction, alpha=sign * step)
        values.append(r1(lambda x, _: discriminator(x, alpha=0.4), images).item())
        with torch.no_grad():
            weight.sub_(direction, alpha=sign * step)
    numeric = (values[0] - values[1]) / (2 * step)
    assert (analytic * direction).sum().item() == pytest.approx(numeric, rel=1e-6)


def test_labels_choose_the_image_and_the_logit() -> None:
    generator, discriminator = players(resolution=8, classes=3)
    z, labels = latents(2)[:1].expand(3, -1), torch.arange(3)
    images = generator(z, labels)
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(generator(z, torch.eye(3)), images)
    alike, logits = images[:1].expand(3, -1, -1, -1), []
    discriminator.end.register_forward_hook(lambda module, inputs, output: logits.append(output))
    chosen = discriminator(alike, labels)
    assert torch.equal(chosen, logits[0].diagonal())
    assert len(set(chosen.tolist())) == 3
    mixed = discriminator(alike[:1], torch.tensor([[0.25, 0.75, 0.0]]))
    torch.testing.assert_close(mixed, (logits[-1][0] * torch.tensor([0.25, 0.75, 0.0])).sum()[None])


def test_latent_and_label_weigh_the_same() -> None:
    generator, _ = players(classes=3)
    inputs = generator._latents(latents(), torch.tensor([0, 1, 2, 0])).unflatten(1, (2, -1))
    torch.testing.assert_close(inputs.square().mean(2), torch.ones(4, 2, dtype=torch.float64))


def test_options_reach_their_layers() -> None:
    _, discriminator = players(group_size=2, grouping="contiguous", unbiased_stddev=True)
    layer = discriminator.end.minibatch_stddev
    assert (layer.group_size, layer.grouping, layer.unbiased) == (2, "contiguous", True)
    _, without = players(group_size=0)
    assert not any(isinstance(module, MinibatchStddev) for module in without.modules())
    assert without.end.conv.weight.shape[1] == 8
    generator = progan.Generator(resolution=8, z_dim=4, widths=(7, 5), to_rgb_gain=2.0, input_gain=3.0)
    assert [layer.weight.shape[1] for layer in generator.to_rgb] == [7, 5]
    assert generator.to_rgb[0].scale == pytest.approx(2 / math.sqrt(7))
    assert generator.start.dense.scale == pytest.approx(3 / math.sqrt(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: progan.Generator(resolution=48), "resolution=48 must be a power of two of at least 4"),
        (lambda: progan.Discriminator(resolution=2), "resolution=2 must be a power of two of at least 4"),
        (lambda: progan.Generator(resolution=8, classes=-1), "classes=-1 must be 0"),
        (lambda: progan.Generator(resolution=8, z_dim=0), "z_dim=0 must be at least 1"),
        (lambda: progan.Discriminator(resolution=8, channels=0), "channels=0 must be at least 1"),
        (lambda: progan.Discriminator(resolution=8, widths=(4,)), r"widths=\(4,\) must have 2 entries"),
        (lambda: progan.Generator(resolution=8, channel_base=4), r"leave no channels: \(1, 0\)"),
        (lambda: players()[0].grow(resolution=64), "resolution=64 must be one of: 4, 8, 16, 32"),
        (lambda: players()[0].grow(resolution=8, alpha=1.5), r"alpha=1.5 must lie in \[0, 1\]"),
        (lambda: players()[1](pictures(64)), "resolution=64 must be one of"),
        (lambda: players(classes=3)[0](latents()), "classes=3: pass labels"),
        (lambda: players(classes=3)[1](pictures(8)), "classes=3: pass labels"),
    ],
)
def test_wrong_arguments_are_named(call, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        call()


def test_a_group_size_that_does_not_divide_the_batch() -> None:
    x = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    strided = MinibatchStddev(group_size=4)(x)[:, 4, 0, 0]
    # The largest divisor is 3: two groups of three, images 0, 2, 4 and 1, 3, 5.
    expected = [x[first::2].var(0, correction=0).add(1e-8).sqrt().mean() for first in (0, 1)]
    torch.testing.assert_close(strided, torch.stack(expected).repeat(3))
    contiguous = MinibatchStddev(group_size=4, grouping="contiguous")(x)[:, 4, 0, 0]
    torch.testing.assert_close(contiguous, x.var(0, correction=0).add(1e-8).sqrt().mean().expand(6))
    alone = MinibatchStddev()(x[:1])[:, 4]
    torch.testing.assert_close(alone, torch.full_like(alone, 1e-4))
