"""A light extractor for smoke runs on a CPU: a small classifier of Fashion-MNIST (arXiv:1708.07747), 128 features.

Trained by `python -m benchmarks.fashion_classifier`, which also says how well it does; the weights ship with the
package. Its distance is a Frechet distance under a named network and never FID: use it to see that a run on small grey
pictures improves, not to compare with published numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "fashion_classifier"
SIDE = 32
FEATURES = 128
CLASSES = 10
WEIGHTS = Path(__file__).with_name("fashion_classifier.safetensors")
INPUT = "grey (mean of channels), area to 32x32 when larger, else bilinear (half-pixel centres); [-1, 1]"


class FashionClassifier(nn.Module):
    """Maps uint8 images (N, 3, H, W) to features (N, 128) and logits (N, 10). 130,000 parameters, 520 kB."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 32, 64, 64, FEATURES)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=stride, padding=1)
            for (a, b), stride in zip(itertools.pairwise(widths), (2, 2, 1, 2), strict=True)
        )
        self.linear = nn.Linear(FEATURES, CLASSES)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FashionClassifier:
        """Build the network with trained weights, ready for inference; `state` is what `parameters_of` returns."""
        network = cls()
        network.load_state_dict(state)
        return network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 128) and logits (N, 10) of uint8 images (N, 3, H, W)."""
        x = images.float().mean(1, keepdim=True)
        if x.shape[-2:] != (SIDE, SIDE):
            larger = min(x.shape[-2:]) > SIDE
            x = (
                F.interpolate(x, (SIDE, SIDE), mode="area")
                if larger
                else F.interpolate(x, (SIDE, SIDE), mode="bilinear")
            )
        x = x / 127.5 - 1.0
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.1)
        features = x.mean((2, 3))
        return features, self.linear(features)


def parameters_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors to store, of any shape, by name."""
    return {name: value.detach().contiguous() for name, value in network.state_dict().items()}
