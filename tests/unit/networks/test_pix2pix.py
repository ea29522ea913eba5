import pytest
import torch
from torch import Tensor, nn

from framework.networks import pix2pix
from framework.networks.blocks.dropout import Dropout
from framework.networks.blocks.norm import BatchNorm2d
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Seeded

FP32 = 1e-5
"""Of values of about one; two kernels sum over at most a few hundred numbers."""


def pictures(count: int, *, channels: int = 3, height: int = 64, width: int = 64) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(count, channels, height, width) * 2 - 1


@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "bilinear"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_pictures_of_any_sides_and_channels(upsampling: str, norm: str) -> None:
    generator = pix2pix.Generator(
        source_channels=1, target_channels=4, num_downs=3, width=2, norm=norm, upsampling=upsampling
    )
    discriminator = pix2pix.Discriminator(source_channels=1, target_channels=4, num_layers=2, width=2, norm=norm)
    source = pictures(2, channels=1, height=16, width=40)
    images = generator(source)
    assert images.shape == (2, 4, 16, 40)
    assert images.abs().max() < 1
    assert discriminator(images, source).shape == (2, 1, 2, 8)


def test_widths_and_dropout_of_the_levels() -> None:
    with torch.device("meta"):
        generator = pix2pix.Generator()
    assert [down.conv.out_channels for down in generator.downs] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [up.conv.out_channels for up in generator.ups] == [3, 64, 128, 256, 512, 512, 512, 512]
    assert [level for level, up in enumerate(generator.ups) if up.dropout is not None] == [4, 5, 6]
    papers = pix2pix.Generator(width=1, dropout_at=(7, 6, 5))
    layers = [module.layer for module in papers.modules() if isinstance(module, Dropout)]
    assert layers == [5, 6, 7], "layers of different numbers have different masks"


def test_an_interpolated_picture_has_no_checkerboard() -> None:
    """What a constant becomes repeats with every pixel away from the border; a transposed convolution alternates."""
    torch.manual_seed(0)
    for upsampling, flat in (("nearest", True), ("bilinear", True), ("transposed", False)):
        up = pix2pix.Up(2, 1, norm=nn.Identity(), bias=False, upsampling=upsampling, dropout=None)
        inside = up(torch.ones(1, 2, 8, 8))[:, :, 3:-3, 3:-3]
        assert (inside.max() - inside.min() < 1e-6) == flat, upsampling


def test_images_own_statistics_are_those_of_a_batch_of_one() -> None:
    """What the paper does at inference (section 3.3), whatever else is in the batch."""
    torch.manual_seed(0)
    generator = pix2pix.Generator(num_downs=4, width=4)
    running = pix2pix.Generator(num_downs=4, width=4, inference_statistics="running").eval()
    source = pictures(3)
    state = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    alone = torch.cat([generator.train()(source[index : index + 1]) for index in range(3)])
    generator.load_state_dict(state)  # as before those forwards moved the running statistics
    together = generator.eval()(source)
    torch.testing.assert_close(together, alone, rtol=0, atol=FP32)
    assert all(torch.equal(tensor, state[name]) for name, tensor in generator.state_dict().items())
    running.load_state_dict(state)
    assert (running(source) - together).abs().max() > 100 * FP32


def test_dropout_is_the_noise_of_inference() -> None:
    torch.manual_seed(0)
    generator = pix2pix.Generator(num_downs=3, width=4, dropout_at=(2, 1)).eval()
    source = pictures(4)
    seeds = generator.stochastic(Seeded(batch_size=4))
    other = generator.stochastic(Seeded(batch_size=4, seed=1))
    images = generator(source, **seeds)
    assert torch.equal(generator(source, **seeds), images)
    # The others' batch norm is each image's own: what a picture becomes depends on its own seed alone.
    torch.testing.assert_close(generator(source[1:3], dropout=seeds["dropout"][1:3]), images[1:3], rtol=0, atol=FP32)
    differences = (generator(source, **other) - images).abs().amax(dim=(1, 2, 3))
    assert differences.min() > 100 * FP32
    with pytest.raises(FrameworkError, match=r"Dropout\(layer=2\): no seeds in evaluation"):
        generator(source)

    silent = pix2pix.Generator(num_downs=3, width=4, dropout_at=(2, 1), inference_dropout=False).eval()
    silent.load_state_dict(generator.state_dict())
    assert torch.equal(silent(source), silent(source, **seeds))
    assert (silent(source) - images).abs().max() > 100 * FP32
    with pytest.raises(FrameworkError, match=r"Dropout\(layer=2\): no seeds in training"):
        silent.train()(source)
    assert pix2pix.Generator(num_downs=5, width=1).stochastic(Seeded(batch_size=4)) == {}


@pytest.mark.parametrize(("num_layers", "side"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_sides_of_patches(num_layers: int, side: int) -> None:
    """One logit in the middle depends on a square of so many pixels, of image and source alike."""
    torch.manual_seed(0)
    discriminator = pix2pix.Discriminator(
        source_channels=1, target_channels=1, num_layers=num_layers, width=1, norm="none"
    )
    discriminator.double()  # gradients through six layers of small weights
    image, source = (torch.rand(1, 1, 320, 320, dtype=torch.float64, requires_grad=True) for _ in range(2))
    logits = discriminator(image, source)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    for tensor in (image, source):
        rows, columns = tensor.grad[0, 0].nonzero().unbind(1)
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (side, side)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    for network in (pix2pix.Generator(width=8), pix2pix.Discriminator(width=16)):
        convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        assert len(convolutions) in (16, 5)
        for module in convolutions:
            assert module.bias is None or not module.bias.any()
            if module.weight.numel() > 1000:
                # The standard error of a deviation estimated from n numbers is 0.02 / sqrt(2 n): below 0.0005 here.
                assert module.weight.std().item() == pytest.approx(0.02, abs=0.002)
        gains = torch.cat([m.weight for m in network.modules() if isinstance(m, BatchNorm2d)])
        assert gains.mean().item() == pytest.approx(1.0, abs=0.01)
        assert gains.std().item() == pytest.approx(0.02, abs=0.005)


def test_statistics_reach_every_norm() -> None:
    generator = pix2pix.Generator(num_downs=5, width=1, statistics="local", inference_statistics="running")
    discriminator = pix2pix.Discriminator(width=1, statistics="local")
    for network, count in ((generator, 7), (discriminator, 3)):
        norms = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
        assert len(norms) == count
        assert {(norm.statistics, norm.inference_statistics) for norm in norms} == {("local", "running")}


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (pix2pix.Generator, {"num_downs": 1}, "num_downs=1 must be at least 2"),
        (pix2pix.Generator, {"norm": "layer"}, "norm='layer' must be one of: batch, instance, none"),
        (pix2pix.Generator, {"upsampling": "area"}, "upsampling='area' must be one of: transposed, nearest, bilinear"),
        (pix2pix.Generator, {"source_channels": 0}, "source_channels=0 must be at least 1"),
        (pix2pix.Generator, {"num_downs": 5, "dropout_at": (5,)}, r"dropout_at=\(5,\) must be levels from 1 to .*=4"),
        (pix2pix.Generator, {"num_downs": 5, "dropout_at": (0,)}, r"dropout_at=\(0,\) must be levels from 1"),
        (pix2pix.Generator, {"inference_statistics": "batch"}, "must be one of: running, image"),
        (pix2pix.Discriminator, {"num_layers": -1}, "num_layers=-1 must be at least 0"),
        (pix2pix.Generator, {"target_channels": 0}, "target_channels=0 must be at least 1"),
        (pix2pix.Discriminator, {"target_channels": 0}, "target_channels=0 must be at least 1"),
        (pix2pix.Discriminator, {"source_channels": -1}, "source_channels=-1 must be at least 0"),
        (pix2pix.Discriminator, {"norm": "layer"}, "norm='layer' must be one of: batch, instance, none"),
        (pix2pix.Discriminator, {"width": 0}, "width=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], options: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network(**{"width": 1} | options)


def test_wrong_pictures_are_named() -> None:
    generator = pix2pix.Generator(num_downs=4, width=1)
    with pytest.raises(
        FrameworkError, match="pictures of 32 x 40 px: with num_downs=4 both sides must be multiples of"
    ):
        generator(pictures(1, height=32, width=40))
    discriminator = pix2pix.Discriminator(width=1)
    with pytest.raises(FrameworkError, match=r"source_channels=3: pass the pictures .* shape \(N, 3, H, W\)"):
        discriminator(pictures(1))
    small = pictures(1, height=24, width=23)
    with pytest.raises(FrameworkError, match=r"images of 24 x 23 px are too small for num_layers=3: .* at least 24"):
        discriminator(small, small)
    assert discriminator(pictures(1, height=24, width=24), pictures(1, height=24, width=24)).numel() == 1
