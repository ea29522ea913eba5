import pytest
import torch

from framework.networks.blocks.attention import SelfAttention2d
from framework.utils.errors import FrameworkError


def test_starts_as_the_identity() -> None:
    images = torch.randn(2, 16, 4, 6)
    assert torch.equal(SelfAttention2d(16)(images), images)


def test_normalises_all_four_convolutions() -> None:
    layer = SelfAttention2d(16)
    names = {name.split(".")[0] for name, _ in layer.named_parameters() if "original" in name}
    assert names == {"theta", "phi", "g", "o"}
    assert not any("original" in name for name, _ in SelfAttention2d(16, spectral=False).named_parameters())


def test_second_derivatives_by_finite_differences() -> None:
    torch.manual_seed(0)
    layer = SelfAttention2d(8).double()
    torch.nn.init.ones_(layer.gamma)
    images = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, images)
    assert torch.autograd.gradgradcheck(layer, images)


def test_needs_eight_channels() -> None:
    with pytest.raises(FrameworkError, match="channels=4 needs at least 8"):
        SelfAttention2d(4)
