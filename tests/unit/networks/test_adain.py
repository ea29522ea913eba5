import torch
from torch import nn

from framework.networks.blocks.adain import AdaIN


def test_adain_sets_the_statistics_of_every_channel() -> None:
    torch.manual_seed(0)
    layer = AdaIN(4, w_dim=3).double()
    nn.init.normal_(layer.style.bias)
    x, w = torch.randn(2, 4, 5, 5, dtype=torch.float64) * 7 + 3, torch.randn(2, 3, dtype=torch.float64)
    y, (scale, shift) = layer(x, w), layer.style(w).chunk(2, dim=1)
    torch.testing.assert_close(y.mean((2, 3)), shift)
    torch.testing.assert_close(y.std((2, 3), correction=0), (1 + scale).abs())
    torch.testing.assert_close(layer(3 * x - 5, w), y)  # what the input's statistics were does not matter


def test_a_new_adain_keeps_the_scale() -> None:
    # Appendix C: the biases of y_s start at one, those of y_b at zero.
    layer = AdaIN(4, w_dim=3)
    y = layer(torch.randn(2, 4, 8, 8), torch.zeros(2, 3))
    torch.testing.assert_close(y.std((2, 3), correction=0), torch.ones(2, 4))
    assert y.mean((2, 3)).abs().max() < 1e-6


def test_adain_gradients() -> None:
    layer = AdaIN(2, w_dim=3).double()
    x, w = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 2, 3, 3), (2, 3)))
    assert torch.autograd.gradcheck(layer, (x, w))
    assert torch.autograd.gradgradcheck(layer, (x, w))
