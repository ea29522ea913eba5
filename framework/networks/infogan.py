"""InfoGAN's networks for MNIST, at the data's resolution (Chen et al., arXiv:1606.03657, appendix C.1).

The generator is a perceptron of 1024 units and 128 feature maps at a quarter of the side, which two transposed
convolutions double. The discriminator mirrors it, and Q, which reads the codes off a sample, is a head of it with a
hidden layer of 128 units. All but the outermost layers have batch norm.

The paper trains Q with the discriminator. Where Q is trained with the generator, as in other programs, it is a part of
the generator, `Generator(codes=...)`, which reads the discriminator's features; see
`framework.objectives.mutual_information`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.heads import DiscriminatorOutput, Recognition
from framework.networks.blocks.init import initialize_normal
from framework.networks.blocks.norm import BatchNorm1d, BatchNorm2d, Statistics
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError


class Generator(nn.Module):
    """InfoGAN's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents and codes.

    Args:
        resolution: side of the image, a multiple of 4 of at least 8; MNIST's is 28.
        channels: channels of the image, 3 for colour, 1 for grey.
        z_dim: length of the latents with their codes; the paper's are 62 + 10 + 2.
        width: channels at half the resolution; twice as many at a quarter of it.
        hidden: units of the hidden layer.
        codes: numbers of its own Q, see `blocks.heads.Recognition`; 0 = the discriminator has it.
        code_features: length of the features that its own Q reads, the discriminator's `hidden`.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 28,
        channels: int = 1,
        z_dim: int = 74,
        width: int = 64,
        hidden: int = 1024,
        codes: int = 0,
        code_features: int = 1024,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        self.side = _quarter(resolution)
        check_sizes(classes=0, channels=channels, z_dim=z_dim, width=width, hidden=hidden)
        self.z_dim = z_dim
        self.hidden = nn.Linear(z_dim, hidden, bias=False)
        self.hidden_norm = BatchNorm1d(hidden, statistics=statistics)
        self.maps = nn.Linear(hidden, 2 * width * self.side**2, bias=False)
        self.maps_norm = BatchNorm1d(2 * width * self.side**2, statistics=statistics)
        self.doubled = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False)
        self.doubled_norm = BatchNorm2d(width, statistics=statistics)
        self.to_image = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)
        self.recognition = Recognition(code_features, codes, statistics=statistics) if codes else None
        initialize_normal(self)

    def forward(self, z: Tensor, labels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        """Return images (N, channels, resolution, resolution), or what its own Q makes of features.

        Q is called like this because engines that shard parameters gather them for a network's forward alone.

        Args:
            z: latents (N, z_dim).
            labels: ignored.
            features: the discriminator's, (N, F); then the parameters (N, codes) of the codes' distribution are
                returned, and no images are made.

        Raises:
            FrameworkError: there are features, and the generator was built without codes.
        """
        if features is not None:
            return self._recognized(features)
        x = functional.relu(self.hidden_norm(self.hidden(z)))
        x = functional.relu(self.maps_norm(self.maps(x))).unflatten(1, (-1, self.side, self.side))
        x = functional.relu(self.doubled_norm(self.doubled(x)))
        return torch.tanh(self.to_image(x))

    def _recognized(self, features: Tensor) -> Tensor:
        if self.recognition is None:
            raise FrameworkError("this generator has no Q of its own: build it with codes=...")
        return self.recognition(features)


class Discriminator(nn.Module):
    """InfoGAN's discriminator: a `DiscriminatorOutput` of images (N, channels, resolution, resolution).

    Args:
        resolution: side of the image, a multiple of 4 of at least 8; MNIST's is 28.
        channels: channels of the image, 3 for colour, 1 for grey.
        width: channels at half the resolution; twice as many at a quarter of it.
        hidden: units of the hidden layer, the length of the features.
        codes: numbers of Q, see `blocks.heads.Recognition`; 0 = no Q, as where the generator has it.
        code_width: units of Q's hidden layer.
        slope: of the leaky ReLU below zero; the authors' program has 0.01.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 28,
        channels: int = 1,
        width: int = 64,
        hidden: int = 1024,
        codes: int = 0,
        code_width: int = 128,
        slope: float = 0.1,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        side = _quarter(resolution)
        check_sizes(classes=0, channels=channels, width=width, hidden=hidden)
        self.slope = slope
        self.from_image = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.halved = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False)
        self.halved_norm = BatchNorm2d(2 * width, statistics=statistics)
        self.hidden = nn.Linear(2 * width * side**2, hidden, bias=False)
        self.hidden_norm = BatchNorm1d(hidden, statistics=statistics)
        self.output = nn.Linear(hidden, 1)
        self.recognition = None
        if codes:
            self.recognition = Recognition(hidden, codes, width=code_width, slope=slope, statistics=statistics)
        initialize_normal(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Return logits (N,), the features (N, hidden) and, of Q, codes (N, K); labels are ignored."""
        x = functional.leaky_relu(self.from_image(images), self.slope)
        x = functional.leaky_relu(self.halved_norm(self.halved(x)), self.slope)
        features = functional.leaky_relu(self.hidden_norm(self.hidden(x.flatten(1))), self.slope)
        return DiscriminatorOutput(
            logits=self.output(features).squeeze(1),
            codes=None if self.recognition is None else self.recognition(features),
            features=features,
        )


def _quarter(resolution: int) -> int:
    """Return a quarter of the resolution."""
    if resolution < 8 or resolution % 4:
        raise FrameworkError(f"resolution={resolution} must be a multiple of 4 of at least 8: 8, 12, ..., 28, 32, ...")
    return resolution // 4
