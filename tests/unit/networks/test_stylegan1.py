import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks import progan, stylegan1
from framework.networks.blocks.growing import doubled, halved
from framework.networks.blocks.noise import seeded_normal
from framework.objectives.penalties import r1
from framework.utils.errors import FrameworkError


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def expected_parameters(*, widths: list[int], z_dim: int = 512, w_dim: int = 512, depth: int = 8) -> int:
    """Parameters of an unconditional generator of RGB images, counted from the paper's description."""
    mapping = (z_dim + 1) * w_dim + (depth - 1) * (w_dim + 1) * w_dim
    total = mapping + 16 * widths[0]
    for level, width in enumerate(widths):
        convolutions = [width] if level == 0 else [widths[level - 1], width]
        total += sum(9 * before * width for before in convolutions)
        # Two layers, each: noise strength and bias per channel, an affine map of w to y_s and y_b.
        total += 2 * (2 * width + (w_dim + 1) * 2 * width)
        total += (width + 1) * 3  # to RGB
    return total


def tiny(*, resolution: int = 16, classes: int = 0, **options) -> stylegan1.Generator:
    """In float64 and as after some training: noise counts, and the mean style is not zero."""
    torch.manual_seed(0)
    sizes = {"resolution": resolution, "classes": classes, "channel_max": 6, "z_dim": 5, "w_dim": 7}
    generator = stylegan1.Generator(mapping_layers=2, **sizes, **options).double()
    for name, parameter in generator.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            nn.init.normal_(parameter)
    nn.init.normal_(generator.mapping.w_avg.value)
    return generator.eval()


def latents(count: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_parameter_counts_are_the_published_ones() -> None:
    widths = [512] * 4 + [256, 128, 64, 32, 16]
    with torch.device("meta"):
        generator = stylegan1.Generator(resolution=1024)
        discriminator = stylegan1.Discriminator(resolution=1024)
    # arXiv:1812.04958, section 2: 26.2M in the generator, 23.1M in a traditional one.
    assert num_parameters(generator) == expected_parameters(widths=widths) == 26_219_627
    assert num_parameters(discriminator) == 23_087_249
    assert generator.num_ws == 18


def test_the_count_holds_for_other_sizes() -> None:
    generator = stylegan1.Generator(resolution=16, widths=(5, 4, 3), z_dim=6, w_dim=7, mapping_layers=3)
    assert num_parameters(generator) == expected_parameters(widths=[5, 4, 3], z_dim=6, w_dim=7, depth=3)


def test_the_blur_is_binomial_and_keeps_place_and_mean() -> None:
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 16.0
    row = torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0])
    torch.testing.assert_close(stylegan1.Blur()(impulse)[0, 0], torch.outer(row, row))


def test_replication_and_blur_are_bilinear_upsampling() -> None:
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = stylegan1.Blur()(doubled(x))
    theirs = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2])  # edges are padded differently


def test_the_first_layers_of_a_new_network() -> None:
    # Appendix C: the constant starts at one, biases and noise at zero.
    generator = stylegan1.Generator(resolution=8, channel_max=4)
    assert torch.equal(generator.start.constant, torch.ones(4, 4, 4))
    strengths = [p for name, p in generator.named_parameters() if name.endswith("noise_strength")]
    assert len(strengths) == 4
    assert not any(strength.any() for strength in strengths)
    z = torch.randn(2, 512)
    assert torch.equal(generator(z, noise="none"), generator(z, noise="random"))
    assert generator.mapping.layers[0].lr_multiplier == 0.01
    assert generator.mapping.w_avg.keep == 0.995


def test_each_pair_of_styles_steers_its_resolution() -> None:
    generator = tiny()
    ws = generator.mapping(latents()).contiguous()
    assert ws.shape == (3, 6, 7)
    reached = []
    for module in (generator.start, *generator.blocks):
        module.register_forward_hook(lambda module, inputs, output: reached.append(output))
    generator.synthesis(ws)
    for layer in range(6):
        changed, before = ws.clone(), list(reached[:3])
        changed[:, layer] += 1.0
        reached.clear()
        generator.synthesis(changed)
        same = [torch.equal(old, new) for old, new in zip(before, reached, strict=True)]
        assert same == [level < layer // 2 for level in range(3)]
        reached[:] = before


def test_mixing_swaps_styles_from_the_crossover_on() -> None:
    generator = tiny()
    first, second = latents(), latents(seed=2)
    crossover = torch.tensor([1, 3, generator.num_ws])
    images = generator(first, mix=(second, crossover))
    ws, other = generator.mapping(first), generator.mapping(second)
    for row, layer in enumerate(crossover.tolist()):
        mixed = torch.cat([ws[row, :layer], other[row, layer:]])[None]
        torch.testing.assert_close(images[row : row + 1], generator.synthesis(mixed))
    torch.testing.assert_close(images[2:], generator(first[2:]))


def test_truncation_draws_the_first_layers_towards_the_mean() -> None:
    generator = tiny()
    z = latents()
    ws, mean = generator.mapping(z), generator.mapping.w_avg.value
    drawn = torch.cat([mean + 0.7 * (ws[:, :4] - mean), ws[:, 4:]], dim=1)
    torch.testing.assert_close(generator(z, psi=0.7, cutoff=4), generator.synthesis(drawn))
    torch.testing.assert_close(generator(z, psi=0.7), generator.synthesis(mean + 0.7 * (ws - mean)))
    average = generator(z, psi=0.0)
    torch.testing.assert_close(average[0], average[1])
    assert torch.equal(generator(z, psi=1.0, cutoff=4), generator(z))


def test_noise_belongs_to_the_image_and_its_seed() -> None:
    generator = tiny()
    z = latents()
    none, const = generator(z, noise="none"), generator(z, noise="const")
    assert not torch.allclose(none, const)
    assert torch.equal(const, generator(z))
    seeds = torch.tensor([11, 12, 13])
    seeded = generator(z, noise=seeds)
    torch.testing.assert_close(seeded[1:], generator(z[1:], noise=seeds[1:]))  # whoever else is in the batch
    same_latent = generator(z[:1].expand(3, -1), noise=torch.tensor([11, 11, 12]))
    torch.testing.assert_close(same_latent[0], same_latent[1])
    assert not torch.allclose(same_latent[0], same_latent[2])
    assert not torch.equal(generator(z, noise="random"), generator(z, noise="random"))
    with pytest.raises(FrameworkError, match="noise='fresh' must be 'none', 'const', 'random' or seeds"):
        generator(z, noise="fresh")


def test_noise_is_the_layers_own_and_comes_before_the_rectifier() -> None:
    generator = tiny()
    styles = [module for module in generator.modules() if isinstance(module, stylegan1.Style)]
    assert [style.layer for style in styles] == list(range(6))
    assert [tuple(style.noise_const.shape) for style in styles] == [(s, s) for s in (4, 4, 8, 8, 16, 16)]
    first, second = styles[:2]
    second.load_state_dict(first.state_dict())
    x, w, seeds = torch.zeros(2, 6, 4, 4).double(), torch.zeros(2, 7).double(), torch.tensor([1, 2])
    assert torch.equal(first(x, w, "const"), second(x, w, "const"))
    assert not torch.allclose(first(x, w, seeds), second(x, w, seeds))
    # Figure 1b: noise and bias before the rectifier, AdaIN behind it.
    noise = first.noise_strength[:, None, None] * seeded_normal(seeds, 0, 4, 4)
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    expected = first.adain(functional.leaky_relu(x + noise + first.bias[:, None, None], 0.2), w)
    torch.testing.assert_close(first(x, w, seeds), expected)


def test_a_block_upsamples_convolves_filters_and_styles() -> None:
    block = tiny().blocks[0]
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    w, seeds = torch.randn(2, 2, 7, dtype=torch.float64), torch.tensor([1, 2])
    inner = block.style1(block.blur(block.conv1(doubled(x))), w[:, 0], seeds)
    torch.testing.assert_close(block(x, w, seeds), block.style2(block.conv2(inner), w[:, 1], seeds))
    # At borders the order of filter and convolution matters.
    assert not torch.allclose(block.blur(block.conv1(doubled(x))), block.conv1(block.blur(doubled(x))))


class Dealt:
    """Draws for n images, as a game hands them in; values count up so that every use is seen."""

    def __init__(self, n: int) -> None:
        self.n, self.random = n, torch.Generator().manual_seed(0)
        self.asked: dict[str, tuple] = {}

    def normal(self, what: str, *shape: int) -> Tensor:
        self.asked[what] = shape
        return torch.randn(self.n, *shape, generator=self.random)

    def uniform(self, what: str, *shape: int) -> Tensor:
        self.asked[what] = shape
        return torch.rand(self.n, *shape, generator=self.random)

    def integers(self, what: str, high: int, *shape: int) -> Tensor:
        self.asked[what] = (high, *shape)
        return torch.randint(high, (self.n, *shape), generator=self.random)


@pytest.mark.parametrize(("resolution", "layers"), [(4, 2), (8, 4), (16, 6)])
def test_training_mixes_within_the_layers_grown_to(resolution: int, layers: int) -> None:
    generator, count = tiny(), 4000
    generator.grow(resolution=resolution, alpha=1.0)
    draw = Dealt(count)
    options = generator.stochastic(draw)
    second, crossover = options["mix"]
    assert draw.asked == {
        "style_mixing": (),
        "style_crossover": (layers - 1,),
        "style_latents": (5,),
        "noise_seeds": (1 << 62,),
    }
    assert second.shape == (count, 5)
    assert options["noise"].shape == (count,)
    mixed = crossover < generator.num_ws
    # Binomial with p = 0.9: four standard deviations.
    assert mixed.double().mean().item() == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / count))
    values, counts = crossover[mixed].unique(return_counts=True)
    assert values.tolist() == list(range(1, layers))
    share = 1 / (layers - 1)
    deviation = 4 * math.sqrt(share * (1 - share) / (0.8 * count))
    assert (counts / mixed.sum() - share).abs().max().item() <= deviation
    generator.stochastic(draw)
    z = torch.randn(count, 5)[:4].double()
    images = generator(z, mix=(second[:4].double(), crossover[:4]), noise=options["noise"][:4])
    assert images.shape == (4, 3, resolution, resolution)


def test_mixing_can_be_switched_off() -> None:
    generator = tiny(mixing_probability=0.0)
    _, crossover = generator.stochastic(Dealt(50))["mix"]
    assert (crossover == generator.num_ws).all()
    with pytest.raises(FrameworkError, match=r"mixing_probability=1.5 must lie in \[0, 1\]"):
        tiny(mixing_probability=1.5)


def test_training_draws_nothing_from_torch() -> None:
    generator = tiny().train()
    state = torch.get_rng_state()
    options = generator.stochastic(Dealt(4))
    second, crossover = options["mix"]
    generator(latents(4), mix=(second.double(), crossover), noise=options["noise"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("side", [8, 16])
def test_growing_fades_as_progan_does(side: int) -> None:
    generator, z = tiny(), latents()
    coarse, fine = generator(z, resolution=side // 2), generator(z, resolution=side)
    for alpha in (0.0, 0.25, 1.0):
        generator.grow(resolution=side, alpha=alpha)
        torch.testing.assert_close(generator(z), (1 - alpha) * doubled(coarse) + alpha * fine)


def test_layers_off_the_path_have_no_gradient() -> None:
    generator = tiny()
    generator.grow(resolution=8, alpha=0.5)
    generator(latents(), noise=torch.arange(3)).sum().backward()
    missing = {name.split(".")[0] + name.split(".")[1] for name, p in generator.named_parameters() if p.grad is None}
    assert missing == {"blocks1", "to_rgb2"}
    used = [p for p in generator.parameters() if p.grad is not None]
    assert len(used) == len(list(generator.parameters())) - 12


def test_the_discriminator_is_progans_with_low_pass_filters() -> None:
    torch.manual_seed(0)
    ours = stylegan1.Discriminator(resolution=8, channel_max=4).double()
    theirs = progan.Discriminator(resolution=8, channel_max=4).double()
    theirs.load_state_dict(ours.state_dict())  # the same parameters by the same names
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    assert not torch.allclose(ours(images), theirs(images))
    assert torch.equal(ours(halved(images)), theirs(halved(images)))  # no block, no filter
    block, x = ours.blocks[0], torch.randn(2, 4, 8, 8, dtype=torch.float64)
    smooth = functional.conv2d(
        functional.leaky_relu(block.conv1(x), 0.2),
        stylegan1.Blur().kernel.double().expand(4, 1, 3, 3),
        padding=1,
        groups=4,
    )
    expected = functional.leaky_relu(functional.avg_pool2d(block.conv2(smooth), 2), 0.2)
    torch.testing.assert_close(block(x), expected)


def test_r1_reaches_every_layer_of_the_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = stylegan1.Discriminator(resolution=8, channel_max=4).double()
    r1(discriminator, torch.randn(4, 3, 8, 8, dtype=torch.float64)).backward()
    weights = {n: p for n, p in discriminator.named_parameters() if n.endswith("weight") and n != "from_rgb.0.weight"}
    assert all(weight.grad.abs().max() > 0 for weight in weights.values())


def test_labels_reach_the_styles() -> None:
    generator, z = tiny(classes=3), latents(1).expand(3, -1)
    images = generator(z, torch.arange(3))
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(generator(z, torch.eye(3)), images)
    with pytest.raises(FrameworkError, match="classes=3: pass labels"):
        generator(z)
