import pytest
import torch
from torch import Tensor
from torch.autograd import gradgradcheck

from framework.networks import stylegan3
from framework.networks.blocks.alias_free_layer import Layer, ToImage
from framework.networks.blocks.flexible_layers import Signal
from framework.networks.blocks.moving import advance
from framework.utils.errors import FrameworkError
from tests.helpers.spawn import run_ranks

TINY = {"resolution": 32, "z_dim": 6, "w_dim": 5, "num_layers": 4, "channel_base": 128, "channel_max": 6}


def tiny(**changes: object) -> stylegan3.Generator:
    torch.manual_seed(0)
    return stylegan3.Generator(**{**TINY, **changes})


@pytest.mark.parametrize("options", [stylegan3.TRANSLATION, stylegan3.ROTATION], ids=["t", "r"])
@pytest.mark.parametrize(("resolution", "channels", "classes"), [(16, 1, 0), (64, 3, 7), (512, 3, 0)])
def test_shapes(options: dict, resolution: int, channels: int, classes: int) -> None:
    with torch.device("meta"):
        generator = stylegan3.Generator(resolution=resolution, channels=channels, classes=classes, **options)
        labels = torch.zeros(2, dtype=torch.int64)
        images = generator(torch.zeros(2, generator.z_dim), labels)
    assert images.shape == (2, channels, resolution, resolution)


def test_presets() -> None:
    with torch.device("meta"):
        translation, default = (
            stylegan3.Generator(resolution=64, **stylegan3.TRANSLATION),
            stylegan3.Generator(resolution=64),
        )
        rotation = stylegan3.Generator(resolution=64, **stylegan3.ROTATION)
    assert {k: v.shape for k, v in translation.state_dict().items()} == {
        k: v.shape for k, v in default.state_dict().items()
    }
    down = [layer.down_filter.dim() for layer in rotation.synthesis.layers[:-1]]
    assert down == [2] * 12 + [1] * 2  # critically sampled layers keep the square band
    assert all(layer.up_filter.dim() == 1 for layer in rotation.synthesis.layers[:-1])
    assert all(layer.weight.shape[2:] == (1, 1) for layer in rotation.synthesis.layers)


def test_conditional_generator_depends_on_the_label() -> None:
    generator = tiny(classes=3).eval()
    z = torch.randn(1, 6).expand(2, -1)
    images = generator(z, torch.tensor([0, 2]))
    assert not torch.allclose(images[0], images[1])
    weights = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(generator(z, weights), images)
    with pytest.raises(FrameworkError, match="classes=3"):
        generator(z)


def test_truncation() -> None:
    generator = tiny().eval()
    generator.mapping.w_avg.value.copy_(torch.randn(5))
    z = torch.randn(2, 6)
    mean = generator.synthesis(generator.mapping.w_avg.value.expand(1, generator.synthesis.num_ws, -1))
    torch.testing.assert_close(generator(z, psi=0.0), mean.expand(2, -1, -1, -1))
    assert not torch.allclose(generator(z, psi=0.5, cutoff=1), generator(z, psi=0.5))
    torch.testing.assert_close(generator(z, psi=0.5, cutoff=0), generator(z))
    assert torch.equal(generator(z, noise="const"), generator(z))


def test_images_do_not_depend_on_their_batch() -> None:
    generator = tiny().double().eval()
    z = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(generator(z)[1:2], generator(z[1:2]), rtol=0, atol=1e-12)


def test_autocast_keeps_the_image() -> None:
    generator = tiny().eval()
    z = torch.randn(2, 6)
    with torch.no_grad():
        exact = generator(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = generator(z)
    assert rough.dtype == torch.float32
    # bfloat16 rounds to 2^-8; five layers of it stay below a tenth of the picture's range.
    assert 0 < (rough - exact).abs().max() < 0.1 * (exact.max() - exact.min())


SIGNAL = {"cutoff": 1.0, "half_width": 1.0, "sampling_rate": 4, "critical": False}


@pytest.mark.parametrize("kind", ["t", "r", "image"])
def test_second_derivatives(kind: str) -> None:
    """Path length differentiates the gradient with respect to styles once more."""
    torch.manual_seed(0)
    common = {"w_dim": 2, "conv_clamp": None, "magnitude_keep": 0.5}
    if kind == "image":
        layer = ToImage(2, 3, **common).double().eval()
    else:
        before, after = Signal(size=4, channels=2, **SIGNAL), Signal(size=2, channels=2, **SIGNAL)
        layer = Layer(
            before, after, kernel=3 if kind == "t" else 1, filter_size=2, oversampling=2, radial=kind == "r", **common
        )
        layer = layer.double().eval()
    layer.magnitude.value.fill_(1.7)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, w: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        y = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, w))
        return y.square()

    assert gradgradcheck(call, (x, w, *layer.parameters()))


def test_every_parameter_has_a_gradient() -> None:
    generator = tiny(classes=2)
    generator(torch.randn(2, 6), torch.tensor([0, 1])).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 2}, "kernel=2 must be odd"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"filter_size": 0}, "filter_size=0 must be at least 1"),
        ({"resolution": 20}, "resolution=20 must be a power of two"),
        ({"num_critical": 4}, "num_critical=4 must be at least 1 and less than num_layers=4"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        tiny(**change)


def magnitudes(generator: stylegan3.Generator) -> Tensor:
    return torch.stack([layer.magnitude.value for layer in generator.synthesis.layers])


def test_magnitude_is_the_mean_square_of_the_input() -> None:
    """`keep` of the old value, the rest of the new mean over images, pixels and feature maps; first value 1."""
    generator, seen = tiny(magnitude_keep=0.75).double(), []
    layer = generator.synthesis.layers[2]
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator(torch.randn(3, 6, dtype=torch.float64))
    assert torch.equal(magnitudes(generator), torch.ones(5, dtype=torch.float64))  # not in the middle of a turn
    advance(generator)
    torch.testing.assert_close(layer.magnitude.value, 0.75 + 0.25 * seen[0].square().mean())
    moved = magnitudes(generator)
    generator.eval()(torch.randn(3, 6, dtype=torch.float64))
    advance(generator)
    assert torch.equal(magnitudes(generator), moved)


def test_magnitude_is_divided_out() -> None:
    layer = ToImage(2, 3, w_dim=2, conv_clamp=None, magnitude_keep=0.5).eval()
    x, w = torch.randn(1, 2, 4, 4), torch.randn(1, 2)
    image = layer(x, w)
    layer.magnitude.value.fill_(9.0)
    torch.testing.assert_close(layer(3 * x, w), image)


TURNS, BATCH = 3, 5  # which two processes, or two micro-batches, share unequally


def turns(
    generator: stylegan3.Generator, *, first: int, last: int, micro_batches: int = 1, world: int = 1, rank: int = 0
) -> None:
    """Training forwards of turns `first` to `last` on this process's share of the same global latents."""
    for turn in range(first, last):
        z = torch.randn(BATCH, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(turn))
        for micro in z.tensor_split(world)[rank].tensor_split(micro_batches):
            generator(micro)
        advance(generator)


def moving_after_turns(world: int, micro_batches: int) -> dict[str, Tensor]:
    generator = tiny(magnitude_keep=0.5, w_avg_keep=0.5).double()
    rank = torch.distributed.get_rank() if world > 1 else 0
    turns(generator, first=0, last=TURNS, micro_batches=micro_batches, world=world, rank=rank)
    return {"magnitudes": magnitudes(generator), "w_avg": generator.mapping.w_avg.value}


@pytest.mark.distributed
def test_magnitudes_do_not_depend_on_processes_or_micro_batches() -> None:
    alone = moving_after_turns(1, 1)
    assert (alone["magnitudes"] - 1).abs().min() > 1e-3
    # Rounding of sums in another order; the network is in float64.
    for other in (moving_after_turns(1, 2), *run_ranks(moving_after_turns, 2, 2, 1)):
        for name, value in alone.items():
            torch.testing.assert_close(other[name], value, rtol=1e-12, atol=1e-12)


def test_magnitudes_go_on_after_a_resume() -> None:
    through = tiny(magnitude_keep=0.5).double()
    turns(through, first=0, last=TURNS)
    first, second = (tiny(magnitude_keep=0.5).double() for _ in range(2))
    turns(first, first=0, last=1)
    second.load_state_dict(first.state_dict())
    turns(second, first=1, last=TURNS)
    assert torch.equal(magnitudes(second), magnitudes(through))
