"""Adaptive instance normalisation (Huang & Belongie, arXiv:1703.06868), as in StyleGAN (arXiv:1812.04958, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from framework.networks.blocks.equalized import EqualizedLinear


class AdaIN(nn.Module):
    """AdaIN: `y = y_s (x - mean(x)) / std(x) + y_b` per image and channel; (y_s - 1, y_b) is a learned affine map of w.

    The variance over pixels is the biased one. The paper initialises the biases of y_s with one, which is equivalent.

    Args:
        channels: C.
        w_dim: length of the style vector.
        eps: added to the variance.
    """

    def __init__(self, channels: int, *, w_dim: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.style = EqualizedLinear(w_dim, 2 * channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Normalise feature maps (N, C, H, W), then scale and shift them by styles (N, w_dim); same shape."""
        scale, shift = self.style(w)[:, :, None, None].chunk(2, dim=1)
        # A sum over a million pixels needs more than half precision.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        deviation = wide - wide.mean((2, 3), keepdim=True)
        normalized = deviation * (deviation.square().mean((2, 3), keepdim=True) + self.eps).rsqrt()
        return torch.addcmul(shift, normalized, 1 + scale).to(x.dtype)
