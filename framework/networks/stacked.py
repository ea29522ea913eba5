"""Stacked GAN: an encoder, and a stack of generators that inverts it level by level (Huang et al., arXiv:1612.04357).

The encoder maps a picture x to features h1 and these to classes y. On the way down, G1 makes features of a class and
noise, G0 a picture of features and noise; D1 judges features, D0 pictures, and each of them also reads the noise off
what it judges (the networks Q1 and Q0 of section 3, which share all layers but the last). The sizes are those of the
authors' program for MNIST, 28 px, brought to sides that are powers of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.init import initialize
from framework.networks.blocks.norm import BatchNorm2d, Statistics
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError

COARSEST = 4
"""The side in pixels of the first feature map of G0, and of the last one of D0."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What the stack of generators made of every sample, by level."""

    features: Tensor
    """What G1 made, (N, F)."""
    images: Tensor
    """What G0 made, (N, C, H, W) in [-1, 1]."""
    condition: Tensor
    """The features (N, F) that G0 was given, without a graph."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the discriminators of all levels say of every sample, from the top of the stack down."""

    logits: tuple[Tensor, ...]
    """The logits (N,) of D1 and of D0, larger for real samples."""
    noise: tuple[Tensor, ...]
    """The noise that Q1 and Q0 read off the samples, (N, width of the noise) each, in (0, 1)."""


class Encoder(nn.Module):
    """The encoder E: logits (N, classes) from images (N, channels, resolution, resolution) in [-1, 1].

    Two convolutions of 5x5 without a border, each rectified and followed by pooling of 2x2, and two dense layers. It is
    trained first, as a classifier, and is a `Helper` of the game.

    Args:
        resolution: side of the images, at least 16.
        channels: channels of the images.
        classes: number of classes.
        features: length of h1, the rectified output of the first dense layer (the program's fc3).
        width: channels of both convolutions.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self, *, resolution: int = 28, channels: int = 1, classes: int = 10, features: int = 256, width: int = 32
    ) -> None:
        super().__init__()
        check_sizes(classes=0, channels=channels, width=width)
        if resolution < 16 or classes < 2 or features < 1:
            raise FrameworkError(
                f"resolution={resolution} must be at least 16, classes={classes} at least 2, features={features} at "
                "least 1"
            )
        self.features = features
        side = ((resolution - 4) // 2 - 4) // 2
        self.convolutions = nn.ModuleList([nn.Conv2d(channels, width, 5), nn.Conv2d(width, width, 5)])
        self.to_features = nn.Linear(width * side * side, features)
        self.to_classes = nn.Linear(features, classes)

    def encode(self, images: Tensor) -> Tensor:
        """Return the features h1 (N, features), none of them negative, of images (N, C, H, W)."""
        x = images
        for convolution in self.convolutions:
            x = functional.max_pool2d(functional.relu(convolution(x)), 2)
        return functional.relu(self.to_features(x.flatten(1)))

    def classify(self, features: Tensor) -> Tensor:
        """Return logits (N, classes) of features (N, features), encoded or generated."""
        return self.to_classes(features)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        return self.classify(self.encode(images))


class FeatureGenerator(nn.Module):
    """The upper generator G1: features (N, features) from noise and classes.

    Args:
        classes: number of classes.
        noise: length of the noise z1.
        features: length of the features that are made.
        hidden: units of both hidden layers.
        statistics: as for `Generator`.
    """

    def __init__(self, *, classes: int, noise: int, features: int, hidden: int, statistics: Statistics) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise((noise + classes, hidden, hidden)))
        self.norms = nn.ModuleList(BatchNorm2d(hidden, statistics=statistics) for _ in self.layers)
        self.output = nn.Linear(hidden, features)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return features (N, features), none of them negative, for noise z (N, noise) and labels (N,) int64."""
        x = torch.cat([z, functional.one_hot(labels, self.classes).to(z.dtype)], dim=1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.relu(_normalised(norm, layer(x)))
        return functional.relu(self.output(x))


class ImageGenerator(nn.Module):
    """The lower generator G0: images (N, channels, resolution, resolution) in [-1, 1] from noise and features.

    Args:
        resolution, channels, width, embedding, statistics: as for `Generator`.
        noise: length of the noise z0.
        features: length of the features that images are made of.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        noise: int,
        features: int,
        width: int,
        embedding: int,
        statistics: Statistics,
    ) -> None:
        super().__init__()
        doublings = resolution.bit_length() - COARSEST.bit_length()
        widths = [2 * width, *(2 * width if level == 0 else width for level in range(doublings))]
        self.embedding = nn.Linear(noise, embedding, bias=False)
        self.embedding_norm = BatchNorm2d(embedding, statistics=statistics)
        self.start = nn.Linear(features + embedding, widths[0] * COARSEST**2, bias=False)
        self.start_norm = BatchNorm2d(widths[0] * COARSEST**2, statistics=statistics)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, stride=2, padding=2, output_padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(BatchNorm2d(b, statistics=statistics) for b in widths[1:])
        self.to_image = nn.Conv2d(widths[-1], channels, 5, padding=2)

    def forward(self, z: Tensor, features: Tensor) -> Tensor:
        """Return images (N, channels, resolution, resolution) for noise z (N, noise) and features (N, features)."""
        embedded = functional.relu(_normalised(self.embedding_norm, self.embedding(z)))
        x = self.start(torch.cat([features, embedded], dim=1))
        x = functional.relu(_normalised(self.start_norm, x)).unflatten(1, (-1, COARSEST, COARSEST))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.relu(norm(layer(x)))
        return torch.tanh(self.to_image(x))


class Generator(nn.Module):
    """Both generators, one above the other: images (N, channels, resolution, resolution) in [-1, 1].

    Their noise lies side by side in one latent, that of G1 first. Weights are drawn from N(0, 0.02^2), biases are zero.

    Args:
        resolution: side of the images, a power of two of at least 8.
        channels: channels of the images.
        classes: number of classes, at least 2.
        features: length of the features between the generators; the encoder's.
        z_dims: lengths of the noise z1 of G1 and z0 of G0.
        hidden: units of the hidden layers of G1.
        embedding: units of the layer through which z0 enters G0.
        width: channels of the finest feature maps of G0; the two coarsest have twice as many.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 32,
        channels: int = 1,
        classes: int = 10,
        features: int = 256,
        z_dims: tuple[int, int] = (50, 50),
        hidden: int = 512,
        embedding: int = 128,
        width: int = 64,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        _check(resolution=resolution, channels=channels, width=width, features=features, z_dims=z_dims)
        if classes < 2 or min(hidden, embedding) < 1:
            raise FrameworkError(
                f"classes={classes} must be at least 2 (give the data its classes), hidden={hidden} and "
                f"embedding={embedding} at least 1"
            )
        self.features, self.z_dims, self.z_dim = features, (z_dims[0], z_dims[1]), sum(z_dims)
        self.to_features = FeatureGenerator(
            classes=classes, noise=z_dims[0], features=features, hidden=hidden, statistics=statistics
        )
        self.to_images = ImageGenerator(
            resolution=resolution,
            channels=channels,
            noise=z_dims[1],
            features=features,
            width=width,
            embedding=embedding,
            statistics=statistics,
        )
        _initialize_normal(self)

    def forward(self, z: Tensor, labels: Tensor, given: Tensor | None = None) -> Tensor | Generated:
        """Return images (N, channels, resolution, resolution), or what every level made of each sample.

        Args:
            z: noise of both levels, (N, z_dim).
            labels: classes (N,) int64.
            given: features (M, F), M at most N, that G0 is given in place of what G1 made of the first M samples: all N
                while the levels are trained apart, none (0, F) when they are trained together. None: images alone are
                returned.

        The gradient of an image ends at the features that it was made of: as in the authors' program, each generator
        follows the losses of its own level alone, also when the levels are trained together.
        """
        z1, z0 = z.split(self.z_dims, dim=1)
        features = self.to_features(z1, labels)
        if given is None:
            return self.to_images(z0, features)
        condition = torch.cat([given.to(features.dtype), features[len(given) :]]).detach()
        return Generated(features=features, images=self.to_images(z0, condition), condition=condition)


class FeatureDiscriminator(nn.Module):
    """The upper discriminator D1 with Q1: a logit and the noise z1 of features.

    Args:
        features: length of the features.
        noise: length of the noise that Q1 reads off them.
        hidden: units of both hidden layers.
    """

    def __init__(self, *, features: int, noise: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((features, hidden, hidden)))
        self.to_noise, self.to_logit = nn.Linear(hidden, noise), nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N,) and noise (N, noise) in (0, 1) of features (N, features)."""
        x = features
        for layer in self.layers:
            x = functional.relu(layer(x))
        return self.to_logit(x).squeeze(1), torch.sigmoid(self.to_noise(x))


class ImageDiscriminator(nn.Module):
    """The lower discriminator D0 with Q0: a logit and the noise z0 of images.

    Args:
        resolution, channels, width, hidden: as for `Discriminator`.
        noise: length of the noise that Q0 reads off them.
    """

    def __init__(self, *, resolution: int, channels: int, noise: int, width: int, hidden: int) -> None:
        super().__init__()
        halvings = resolution.bit_length() - COARSEST.bit_length()
        widths = [channels, *(width << level for level in range(halvings))]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in pairwise(widths))
        self.shared = nn.Linear(widths[-1] * COARSEST**2, hidden)
        self.to_noise, self.to_logit = nn.Linear(hidden, noise), nn.Linear(hidden, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N,) and noise (N, noise) in (0, 1) of images (N, C, H, W) in [-1, 1]."""
        x = images
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        x = functional.relu(self.shared(x.flatten(1)))
        return self.to_logit(x).squeeze(1), torch.sigmoid(self.to_noise(x))


class Discriminator(nn.Module):
    """Both discriminators, each with the network Q of its level. There is no normalisation.

    Weights are drawn as Glorot and Bengio do (2010, uniform), biases are zero.

    Args:
        resolution: side of the images, a power of two of at least 8.
        channels: channels of the images.
        features: length of the features that D1 judges; the encoder's.
        z_dims: lengths of the noise of G1 and of G0, which Q1 and Q0 read.
        hidden: units of the dense layers.
        width: channels of the finest feature map of D0; each coarser one has twice as many.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 32,
        channels: int = 1,
        features: int = 256,
        z_dims: tuple[int, int] = (50, 50),
        hidden: int = 256,
        width: int = 32,
    ) -> None:
        super().__init__()
        _check(resolution=resolution, channels=channels, width=width, features=features, z_dims=z_dims)
        if hidden < 1:
            raise FrameworkError(f"hidden={hidden} must be at least 1")
        self.features = features
        self.of_features = FeatureDiscriminator(features=features, noise=z_dims[0], hidden=hidden)
        self.of_images = ImageDiscriminator(
            resolution=resolution, channels=channels, noise=z_dims[1], width=width, hidden=hidden
        )
        initialize(self, init="xavier")

    def forward(self, images: Tensor, features: Tensor) -> Judged:
        """Return what is said of images (N, C, H, W) in [-1, 1] and of features (N, F).

        The two are judged apart: features need not be those of the images.
        """
        upper, z1 = self.of_features(features)
        lower, z0 = self.of_images(images)
        return Judged(logits=(upper, lower), noise=(z1, z0))


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalise features (N, C) as feature maps of one pixel."""
    return norm(x[:, :, None, None]).flatten(1)


@torch.no_grad()
def _initialize_normal(network: nn.Module) -> None:
    """Draw weights of dense layers and convolutions from N(0, 0.02^2); biases become zero."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:  # a norm behind the layer has its own
                nn.init.zeros_(module.bias)


def _check(*, resolution: int, channels: int, width: int, features: int, z_dims: tuple[int, int]) -> None:
    """Refuse sizes that cannot be built."""
    if resolution < 2 * COARSEST or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two of at least 8: 8, 16, 32, 64, ...")
    check_sizes(classes=0, channels=channels, width=width)
    if features < 1 or len(z_dims) != 2 or min(z_dims) < 1:
        raise FrameworkError(f"features={features} must be at least 1, and z_dims={z_dims} two numbers of at least 1")
