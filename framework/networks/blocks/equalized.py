"""Equalised learning rate and pixel norm (Karras et al., ProGAN, arXiv:1710.10196, sections 4.1 and 4.2).

Weights are stored with unit variance and scaled by He's constant at every use, so that Adam, whose steps do not depend
on the gradient's scale, changes all layers at the same relative speed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class EqualizedLinear(nn.Module):
    """A linear layer `y = (scale * W) x + lr_multiplier * b`, `scale = gain * lr_multiplier / sqrt(in_features)`.

    Args:
        in_features: length of x.
        out_features: length of y.
        bias: learn b.
        bias_init: initial value of `lr_multiplier * b`.
        lr_multiplier: learning rate relative to other layers (StyleGAN's mapping network: 0.01).
        gain: He's sqrt(2) before a rectifier whose own gain is 1; 1 where the activation brings its gain.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.lr_multiplier = in_features, out_features, lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier)) if bias else None
        self.scale = gain * lr_multiplier / math.sqrt(in_features)

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, scale={self.scale:.4g}"

    def scaled_weight(self) -> Tensor:
        """Return the weight in use, (out_features, in_features)."""
        return self.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        bias = None if self.bias is None else self.bias * self.lr_multiplier
        return functional.linear(x, self.scaled_weight(), bias)


class EqualizedConv2d(nn.Module):
    """A convolution `y = (scale * W) * x + b` with `scale = gain / sqrt(in_channels * kernel^2)`.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: side of the square kernel.
        bias: learn b.
        gain: as in `EqualizedLinear`.
        stride: step of the convolution, in pixels.
        padding: zeros added on each side, in pixels; None keeps the size (at stride 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        bias: bool = True,
        gain: float = 1.0,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / math.sqrt(in_channels * kernel**2)
        self.stride, self.padding = stride, kernel // 2 if padding is None else padding

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        return f"{tuple(self.weight.shape)}, bias={self.bias is not None}, scale={self.scale:.4g}"

    def scaled_weight(self) -> Tensor:
        """Return the weight in use, (C', C, kernel, kernel)."""
        return self.weight * self.scale

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to (N, C', H', W'), of the same size with the default padding and stride."""
        return functional.conv2d(images, self.scaled_weight(), self.bias, stride=self.stride, padding=self.padding)


def pixel_norm(x: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Return `x / sqrt(mean(x^2) + eps)`, the mean over dimension 1 (arXiv:1710.10196, section 4.2); same shape.

    Each pixel's feature vector, or each latent, then has a mean square of 1. Half precision is widened for the mean,
    which would overflow.

    Args:
        x: feature maps (N, C, H, W), or latents (N, C).
        eps: added to the mean square.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().mean(1, keepdim=True) + eps).rsqrt()).to(x.dtype)
