import numpy as np
import torch
from scipy import ndimage
from torch.autograd import gradgradcheck

from framework.augment.blur import gaussian_blur


def test_is_scipys_inside() -> None:
    images = torch.randn(2, 3, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = gaussian_blur(images, sigma=1.5)[:, :, 5:-5, 5:-5]
    # Both end at ceil(3 sigma) = 5 pixels; our taps are float32.
    theirs = ndimage.gaussian_filter(images.numpy(), (0, 0, 1.5, 1.5), radius=(0, 0, 5, 5))[:, :, 5:-5, 5:-5]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-6)


def test_a_constant_stays_up_to_the_edge_however_wide_the_blur() -> None:
    images = torch.full((1, 3, 8, 8), 0.7, dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(images, sigma=10.0), images)


def test_it_fades_into_the_images_themselves() -> None:
    images = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert gaussian_blur(images, sigma=0.0) is images
    assert gaussian_blur(images, sigma=-1.0) is images
    torch.testing.assert_close(gaussian_blur(images, sigma=0.05), images)
    assert not torch.allclose(gaussian_blur(images, sigma=0.5), images)


def test_second_derivatives() -> None:
    images = torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert gradgradcheck(lambda x: gaussian_blur(x, sigma=0.8).square(), images.requires_grad_(True))
