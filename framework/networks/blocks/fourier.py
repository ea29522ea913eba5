"""StyleGAN3's input: sine waves, rotated and translated per image (arXiv:2106.12423, section 3.1 and appendix F.1).

The field of waves has no border and no grid. It can be moved exactly by fractions of a pixel, so the following layers
can learn to attach detail to it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from framework.networks.blocks.equalized import EqualizedLinear
from framework.networks.blocks.precision import full_precision


class FourierInput(nn.Module):
    """The synthesis network's input: learned mixtures of the waves `sin(2 pi (f . p + phase))`, placed by styles w.

    The point p is (x, y) with the image's canvas at [-1/2, 1/2]^2; the map extends beyond it. Frequencies f are drawn
    uniformly from the disc of radius `cutoff`, phases uniformly from a full period; both stay fixed.

    The buffer `transform` (3, 3), the identity unless set, maps canvas to field first: it is the *inverse* of what
    happens to the image. A translation of the image by (dx, dy) canvas widths is [[1, 0, -dx], [0, 1, -dy], [0, 0, 1]].

    Args:
        w_dim: length of w.
        channels: number of waves, and of feature maps mixed from them.
        size: side of the map in pixels.
        sampling_rate: pixels per width of the canvas.
        cutoff: largest frequency, in cycles per width of the canvas.
    """

    frequencies: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, *, w_dim: int, channels: int, size: int, sampling_rate: int, cutoff: float) -> None:
        super().__init__()
        self.size, self.sampling_rate, self.cutoff = size, sampling_rate, cutoff
        angles = 2 * math.pi * torch.rand(channels)
        radii = cutoff * torch.rand(channels).sqrt()  # the root makes the density uniform over the disc
        self.register_buffer("frequencies", torch.stack([radii * angles.cos(), radii * angles.sin()], dim=1))
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = EqualizedLinear(w_dim, 4)
        assert self.affine.bias is not None
        with torch.no_grad():  # start as the identity: rotation (1, 0), translation (0, 0)
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.eye(4)[0])

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        return f"{len(self.weight)}, size={self.size}, sampling_rate={self.sampling_rate}, cutoff={self.cutoff:g}"

    def forward(self, w: Tensor) -> Tensor:
        """Return the feature maps (N, channels, size, size) for styles w (N, w_dim)."""
        # In half precision, rounding the phases would move the waves by whole pixels.
        with full_precision(w):
            matrix = self._canvas_to_field(w.to(self.weight.dtype))
            frequencies = self.frequencies @ matrix[:, :2, :2]
            phases = self.phases + (self.frequencies @ matrix[:, :2, 2:]).squeeze(2)
            waves = torch.sin(2 * math.pi * (self._points() @ frequencies.mT[:, None] + phases[:, None, None]))
            waves = waves * self._amplitudes(frequencies)[:, None, None]
            mixed = waves @ self.weight.mT / math.sqrt(len(self.weight))
        return mixed.permute(0, 3, 1, 2)

    def _canvas_to_field(self, w: Tensor) -> Tensor:
        """Return (N, 3, 3): the inverse of w's rotation by (r_c, r_s) and translation by (t_x, t_y)."""
        turn = self.affine(w)
        # A common factor of all four has no effect, as the length of a style has none after demodulation.
        cos, sin, x, y = (turn / turn[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1)
        translation = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], dim=1)
        return rotation.view(-1, 3, 3) @ translation.view(-1, 3, 3) @ self.transform

    def _points(self) -> Tensor:
        """Return the centres of the pixels, (size, size, 2), x first."""
        centres = torch.arange(self.size, dtype=self.weight.dtype, device=self.weight.device) - (self.size - 1) / 2
        y, x = torch.meshgrid(centres / self.sampling_rate, centres / self.sampling_rate, indexing="ij")
        return torch.stack([x, y], dim=2)

    def _amplitudes(self, frequencies: Tensor) -> Tensor:
        """Return factors (N, channels) in [0, 1]; waves that `transform` makes too fine for the grid fade out."""
        beyond = (frequencies.norm(dim=2) - self.cutoff) / (self.sampling_rate / 2 - self.cutoff)
        return (1 - beyond).clamp(0, 1)
