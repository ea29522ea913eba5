"""Fully connected networks for points and small pictures: the toy problems of many papers.

The defaults follow Unrolled GAN's ring of Gaussians (Metz et al., arXiv:1611.02163, appendix A): two hidden layers of
128 rectified units in the generator, one in the discriminator, orthogonal weights with a gain of 0.8. The authors'
notebook has `activation="tanh"` and `gain=1.4` instead. There is no normalisation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import Activation, bias_act
from framework.networks.sizes import check_choice, check_sizes
from framework.utils.errors import FrameworkError

Init = Literal["orthogonal", "default"]
"""Initial weights: orthogonal ones (Saxe et al., arXiv:1312.6120) times a gain, with biases of zero, or torch's own."""


class Generator(nn.Module):
    """A fully connected generator: points (N, dims), or images (N, channels, resolution, resolution) in [-1, 1].

    Args:
        dims: numbers of a point; 0 = images are made.
        resolution: side of the images; 0 = points are made.
        channels: channels of the images.
        z_dim: length of the latent.
        width: units of each hidden layer.
        depth: hidden layers, at least 0.
        activation: of the hidden layers, without a gain. Points are a linear map of the last ones, images their tanh.
        init: `orthogonal` or `default`; see `Init`.
        gain: factor on orthogonal weights.

    Raises:
        FrameworkError: an argument is out of range, or both or neither of `dims` and `resolution` are given.
    """

    def __init__(
        self,
        *,
        dims: int = 0,
        resolution: int = 0,
        channels: int = 3,
        z_dim: int = 256,
        width: int = 128,
        depth: int = 2,
        activation: Activation = "relu",
        init: Init = "orthogonal",
        gain: float = 0.8,
    ) -> None:
        super().__init__()
        self.shape = _shape(dims=dims, resolution=resolution, channels=channels)
        check_sizes(classes=0, z_dim=z_dim)
        self.z_dim = z_dim
        self.layers = Layers(
            z_dim, math.prod(self.shape), width=width, depth=depth, activation=activation, init=init, gain=gain
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return points (N, dims) or images (N, channels, resolution, resolution) for latents z (N, z_dim).

        `labels` are ignored.
        """
        samples = self.layers(z).unflatten(1, self.shape)
        return samples if len(self.shape) == 1 else torch.tanh(samples)


class Discriminator(nn.Module):
    """A fully connected discriminator: logits (N,) from points or images.

    Args:
        dims, resolution, channels: as for `Generator`.
        width: units of each hidden layer.
        depth: hidden layers, at least 0.
        activation: of the hidden layers, without a gain.
        init: `orthogonal` or `default`; see `Init`.
        gain: factor on orthogonal weights.
        input_scale: factor on the samples, which brings them to about [-1, 1]: 0.25 for the ring of radius 2.

    Raises:
        FrameworkError: an argument is out of range, or both or neither of `dims` and `resolution` are given.
    """

    def __init__(
        self,
        *,
        dims: int = 0,
        resolution: int = 0,
        channels: int = 3,
        width: int = 128,
        depth: int = 1,
        activation: Activation = "relu",
        init: Init = "orthogonal",
        gain: float = 0.8,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        shape = _shape(dims=dims, resolution=resolution, channels=channels)
        if not (math.isfinite(input_scale) and input_scale > 0):
            raise FrameworkError(f"input_scale={input_scale} must be a positive number")
        self.input_scale = input_scale
        self.layers = Layers(math.prod(shape), 1, width=width, depth=depth, activation=activation, init=init, gain=gain)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N,), larger for real samples.

        Args:
            samples: points (N, dims) or images (N, channels, resolution, resolution).
            labels: ignored.
        """
        return self.layers(samples.flatten(1) * self.input_scale).squeeze(1)


class Layers(nn.Module):
    """Linear layers with an activation between them: (N, in_features) to (N, out_features).

    Args:
        in_features: length of the input.
        out_features: length of the output.
        width, depth, activation, init, gain: as for `Generator`.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int,
        depth: int,
        activation: Activation,
        init: Init,
        gain: float,
    ) -> None:
        super().__init__()
        check_sizes(classes=0, width=width)
        check_choice("activation", activation, Activation)
        check_choice("init", init, Init)
        if depth < 0:
            raise FrameworkError(f"depth={depth} must be at least 0")
        if not (math.isfinite(gain) and gain > 0):
            raise FrameworkError(f"gain={gain} must be a positive number")
        self.activation: Activation = activation
        self.hidden = nn.ModuleList(nn.Linear(width if layer else in_features, width) for layer in range(depth))
        self.output = nn.Linear(width if depth else in_features, out_features)
        if init == "orthogonal":
            for layer in (*self.hidden, self.output):
                nn.init.orthogonal_(layer.weight, gain=gain)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        for layer in self.hidden:
            x = bias_act(layer(x), activation=self.activation, gain=1.0)
        return self.output(x)


def _shape(*, dims: int, resolution: int, channels: int) -> tuple[int, ...]:
    """Return the shape of a sample, (dims,) or (channels, resolution, resolution)."""
    if min(dims, resolution) < 0 or (dims > 0) == (resolution > 0):
        raise FrameworkError(f"dims={dims} and resolution={resolution}: one of them must be at least 1, the other 0")
    check_sizes(classes=0, channels=channels)
    return (dims,) if dims else (channels, resolution, resolution)
