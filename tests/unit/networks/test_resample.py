import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from framework.networks.blocks.activation import activation_gain, bias_act
from framework.networks.blocks.modulated import conv2d_resample, modulated_conv2d
from framework.networks.blocks.resample import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d
from framework.networks.blocks.resampled import ResampledConv2d
from framework.utils.errors import FrameworkError

SEPARABLE = setup_filter([1, 3, 3, 1], separable=True).double()
DENSE = setup_filter([[1, 2, 0], [0, 3, 1]]).double()


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("filter", [None, SEPARABLE, DENSE], ids=["none", "separable", "dense"])
@pytest.mark.parametrize("options", [{"up": 2}, {"down": 2}, {"up": (2, 1), "down": (1, 3)}], ids=str)
def test_resampling_has_second_derivatives(filter: Tensor | None, options: dict) -> None:
    def resampled(x: Tensor) -> Tensor:
        return upfirdn2d(x, filter, padding=(2, 1, 3, -1), gain=1.3, **options).square()  # linear: give it curvature

    x = images(1, 2, 5, 4)
    assert gradcheck(resampled, x)
    assert gradgradcheck(resampled, x)


@pytest.mark.parametrize(
    "activation", ["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]
)
def test_activations_have_second_derivatives(activation: str) -> None:
    def activated(x: Tensor, bias: Tensor) -> Tensor:
        return bias_act(x, bias, activation=activation, gain=1.3, clamp=2.0).square()

    assert gradgradcheck(activated, (images(3, 4), images(4, seed=1)))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("options", [{}, {"up": 2, "mirrored": True}, {"down": 2}, {"demodulate": False}], ids=str)
def test_modulated_convolution_has_second_derivatives(options: dict, fused: bool) -> None:
    def convolved(x: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, styles, filter=SEPARABLE, padding=1, fused=fused, **options)

    assert gradgradcheck(convolved, (images(2, 2, 4, 4), images(3, 2, 3, 3, seed=1), images(2, 2, seed=2)))


@pytest.mark.parametrize(
    "options", [{}, {"up": 2}, {"up": 2, "mirrored": True}, {"down": 2}, {"demodulate": False}], ids=str
)
@pytest.mark.parametrize("kernel", [1, 3])
def test_fused_modulation_equals_scaled_activations(options: dict, kernel: int) -> None:
    x, weight, styles = images(3, 4, 6, 6), images(5, 4, kernel, kernel, seed=1), images(3, 4, seed=2)
    noise = images(3, 1, 1, 1, seed=3)
    options = {"filter": DENSE, "padding": kernel // 2, "noise": noise, **options}
    one, other = (modulated_conv2d(x, weight, styles, fused=fused, **options) for fused in (False, True))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_demodulation_gives_unit_variance() -> None:
    x, weight, styles = torch.randn(2, 64, 32, 32), 3 * torch.randn(32, 64, 3, 3), 5 * torch.randn(2, 64)
    deviation = modulated_conv2d(x, weight, styles, padding=1)[:, :, 1:-1, 1:-1].std()
    assert deviation == pytest.approx(1.0, abs=0.02)


def test_half_precision_does_not_overflow() -> None:
    # Beyond fp16's 65504 are products of style and activation, 4e7, and sums of activations under weights of one sign,
    # 1e5. Demodulated, the result is about 8e3.
    x, weight, styles = torch.full((2, 64, 8, 8), 400.0), torch.rand(4, 64, 3, 3), torch.full((2, 64), 1e5)
    wide = modulated_conv2d(x, weight, styles, padding=1)
    half = modulated_conv2d(x.half(), weight, styles, padding=1)
    assert half.dtype == torch.float16
    assert (half.float() / wide - 1).abs().max() < 1e-2


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("up", "down", "groups"), [(2, 1, 1), (1, 2, 2), (3, 1, 2), (2, 2, 1), (1, 1, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_resampling_convolution_is_its_three_steps(
    up: int, down: int, groups: int, mirrored: bool, kernel: int
) -> None:
    x, weight = images(2, 4, 6, 6), images(6, 4 // groups, kernel, kernel, seed=1)
    steps = upsample2d(x, SEPARABLE, up=up) if up > 1 else x
    steps = torch.nn.functional.conv2d(
        steps, weight.flip((2, 3)) if mirrored else weight, padding=kernel // 2, groups=groups
    )
    steps = downsample2d(steps, SEPARABLE, down=down) if down > 1 else steps
    options = {"up": up, "down": down, "groups": groups, "mirrored": mirrored, "padding": kernel // 2}
    ours = conv2d_resample(x, weight, filter=SEPARABLE, **options)
    inner = (..., slice(2, -2), slice(2, -2)) if kernel > 1 else ...  # what lies beyond the border differs
    torch.testing.assert_close(ours[inner], steps[inner], rtol=0, atol=1e-13)


def test_separable_filter_equals_its_dense_form() -> None:
    taps, x = torch.arange(1.0, 9.0), images(1, 2, 9, 7)
    separable, dense = setup_filter(taps, gain=3.0), setup_filter(taps, gain=3.0, separable=False)
    assert (separable.dim(), dense.dim()) == (1, 2)
    options = {"up": 2, "padding": (3, 4, 2, 1), "gain": 2.0}
    torch.testing.assert_close(upfirdn2d(x, separable, **options), upfirdn2d(x, dense, **options), rtol=0, atol=1e-6)


def test_constant_images_stay_constant() -> None:
    x = torch.full((1, 1, 16, 16), 3.0)
    for result, side in ((upsample2d(x, SEPARABLE), 32), (downsample2d(x, SEPARABLE), 8), (filter2d(x, SEPARABLE), 16)):
        assert result.shape[2:] == (side, side)
        assert (result[:, :, 3:-3, 3:-3] - 3.0).abs().max() < 1e-6


def test_gradients_reach_the_bias_through_the_clamp_only_inside() -> None:
    bias = torch.zeros(2, requires_grad=True)
    bias_act(torch.tensor([[0.5, 5.0]]), bias, clamp=1.0).sum().backward()
    assert bias.grad.tolist() == [1.0, 0.0]


def test_layer_under_autocast_keeps_half_precision() -> None:
    layer = ResampledConv2d(3, 4, 3, activation="lrelu", down=2, filter=setup_filter([1, 3, 3, 1]), conv_clamp=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.randn(2, 3, 8, 8))
    assert y.dtype == torch.bfloat16
    assert y.abs().max() <= 0.1


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(FrameworkError, match=r"activation='gelu'.*lrelu"):
        activation_gain("gelu")
    with pytest.raises(FrameworkError, match="shape"):
        setup_filter(torch.zeros(2, 2, 2))
    with pytest.raises(FrameworkError, match="at least 1"):
        upfirdn2d(images(1, 1, 4, 4), None, up=0)
