"""DCGAN: strided convolutions with batch norm and nothing else (Radford et al., arXiv:1511.06434).

Figure 1 and the guidelines of section 3: no pooling, no hidden dense layers, ReLU in the generator, leaky ReLU in the
discriminator, batch norm everywhere but at the generator's output and the discriminator's input, weights from
N(0, 0.02^2). The paper draws latents from a uniform distribution: `Uniform(100)` among a game's latents.

Options make the networks of other papers: conditional ones (arXiv:1411.1784) with `condition="concatenation"`, a
discriminator with a class head (AC-GAN, arXiv:1610.09585), a head of codes (InfoGAN, arXiv:1606.03657) or minibatch
discrimination (arXiv:1606.03498).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.dropout import Dropout, dropout_seeds
from framework.networks.blocks.heads import DiscriminatorOutput, Heads, check_heads
from framework.networks.blocks.init import initialize_normal
from framework.networks.blocks.minibatch_discrimination import Closeness, MinibatchDiscrimination
from framework.networks.blocks.norm import BatchNorm2d, Statistics
from framework.networks.draw import Draw
from framework.networks.labels import Condition, conditioned_on, with_labels
from framework.networks.sizes import check_sizes
from framework.recipe.checks import ADDED_LATER
from framework.utils.errors import FrameworkError


class Generator(nn.Module):
    """DCGAN's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents.

    Args:
        resolution: side of the image, a power of two of at least 8; the paper's is 64.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; of no effect without a `condition`.
        z_dim: length of the latent.
        width: channels of the finest feature map; each coarser one has twice as many (paper: 128, so 1024 at 4 px).
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).
        condition: `none`, which ignores labels, or `concatenation` of one-hot labels to the latent.
        dropout: share of each feature map's numbers that is dropped in training.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 64,
        channels: int = 3,
        classes: Annotated[int, ADDED_LATER] = 0,
        z_dim: int = 100,
        width: int = 128,
        statistics: Statistics = "global",
        condition: Annotated[Condition, ADDED_LATER] = "none",
        dropout: Annotated[float, ADDED_LATER] = 0.0,
    ) -> None:
        super().__init__()
        widths = _widths(resolution=resolution, channels=channels, width=width, z_dim=z_dim)[::-1]
        self.z_dim = z_dim
        self.told = conditioned_on(condition, classes=classes)
        # The paper projects the latent to 4x4 feature maps, which is a transposed convolution of one pixel.
        first = nn.ConvTranspose2d(z_dim + self.told, widths[0], 4, bias=False)
        self.layers = nn.ModuleList([first, *(_doubling(*pair) for pair in pairwise(widths))])
        self.norms = nn.ModuleList(BatchNorm2d(width, statistics=statistics) for width in widths)
        self.drops = nn.ModuleList(Dropout(dropout, layer=layer) for layer in range(len(widths) if dropout else 0))
        self.to_image = _doubling(widths[-1], channels)
        initialize_normal(self)

    def stochastic(self, draw: Draw) -> dict[str, Any]:
        """Return the seeds of dropout, a keyword argument of `forward`; nothing without dropout."""
        return {"dropout": dropout_seeds(draw)} if self.drops else {}

    def forward(self, z: Tensor, labels: Tensor | None = None, *, dropout: Tensor | None = None) -> Tensor:
        """Return images (N, channels, resolution, resolution) in [-1, 1].

        Args:
            z: latents (N, z_dim).
            labels: (N,) int64 or (N, classes) weights over classes; ignored without a condition.
            dropout: (N,) int64 seeds from `stochastic`; needed in training if there is dropout.

        Raises:
            FrameworkError: labels or seeds are missing.
        """
        x = with_labels(z, labels, classes=self.told)[:, :, None, None]
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = functional.relu(norm(layer(x)))
            x = self.drops[index](x, dropout) if self.drops else x
        return torch.tanh(self.to_image(x))


class Discriminator(nn.Module):
    """DCGAN's discriminator: logits (N,) from images (N, channels, resolution, resolution).

    With heads it returns a `DiscriminatorOutput`, whose features are those of the 4x4 feature map.

    Args:
        resolution: side of the image, a power of two of at least 8; the paper's is 64.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; of no effect without a `condition` or a class head.
        width: channels of the finest feature map; each coarser one has twice as many.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).
        batch_norm: batch norm in all layers but the first and the last; without it, as a gradient penalty needs it
            (arXiv:1704.00028, section 4), all layers have biases.
        condition: `none`, which ignores labels, or `concatenation` of constant maps, one per class, to the image.
        kernels: kernels of minibatch discrimination before the last layer; 0 = none.
        kernel_dim: numbers per kernel.
        kernel_form: see `MinibatchDiscrimination`.
        class_head: tell the classes apart, too (AC-GAN).
        codes: numbers of the head of codes, see `blocks.heads.Recognition` (InfoGAN); 0 = none.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int = 64,
        channels: int = 3,
        classes: Annotated[int, ADDED_LATER] = 0,
        width: int = 128,
        statistics: Statistics = "global",
        batch_norm: Annotated[bool, ADDED_LATER] = True,
        condition: Annotated[Condition, ADDED_LATER] = "none",
        kernels: Annotated[int, ADDED_LATER] = 0,
        kernel_dim: Annotated[int, ADDED_LATER] = 5,
        kernel_form: Annotated[Closeness, ADDED_LATER] = "paper",
        class_head: Annotated[bool, ADDED_LATER] = False,
        codes: Annotated[int, ADDED_LATER] = 0,
    ) -> None:
        super().__init__()
        widths = _widths(resolution=resolution, channels=channels, width=width)
        check_heads(classes=classes, class_head=class_head, codes=codes)
        self.told = conditioned_on(condition, classes=classes)
        self.from_image = _halving(channels + self.told, widths[0], bias=not batch_norm)
        self.layers = nn.ModuleList(_halving(*pair, bias=not batch_norm) for pair in pairwise(widths))
        self.norms = nn.ModuleList(
            BatchNorm2d(width, statistics=statistics) if batch_norm else nn.Identity() for width in widths[1:]
        )
        self.output = nn.Conv2d(widths[-1], 1, 4, bias=not batch_norm)
        features = 16 * widths[-1]
        # How close images are to one another, as a further part of the logit.
        self.compared, self.from_compared = None, None
        if kernels:
            self.compared = MinibatchDiscrimination(
                features, num_kernels=kernels, kernel_dim=kernel_dim, form=kernel_form
            )
            self.from_compared = nn.Linear(kernels, 1, bias=False)
        heads = Heads(features, classes=classes if class_head else 0, codes=codes)
        self.heads = heads if heads.any else None
        initialize_normal(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | DiscriminatorOutput:
        """Return logits (N,), larger for real images; with heads, an output that holds them.

        Args:
            images: (N, channels, resolution, resolution) in [-1, 1].
            labels: (N,) int64 or (N, classes) weights over classes; ignored without a condition.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        x = functional.leaky_relu(self.from_image(with_labels(images, labels, classes=self.told)), 0.2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.leaky_relu(norm(layer(x)), 0.2)
        logits: Tensor = self.output(x).flatten()
        if self.compared is not None and self.from_compared is not None:
            closeness = self.compared(x.flatten(1))[:, self.compared.in_features :]
            logits = logits + self.from_compared(closeness).squeeze(1)
        return logits if self.heads is None else self.heads(x.flatten(1), logits)


def _doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution (N, C, H, W) -> (N, C', 2H, 2W)."""
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


def _halving(in_channels: int, out_channels: int, *, bias: bool) -> nn.Conv2d:
    """Return a strided convolution (N, C, H, W) -> (N, C', H/2, W/2)."""
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)


def _widths(*, resolution: int, channels: int, width: int, z_dim: int = 1) -> list[int]:
    """Return the channels of the feature maps from half the resolution down to 4 px."""
    if resolution < 8 or resolution & (resolution - 1):
        raise FrameworkError(f"resolution={resolution} must be a power of two of at least 8: 8, 16, 32, 64, ...")
    check_sizes(classes=0, channels=channels, width=width, z_dim=z_dim)
    return [width << exponent for exponent in range(resolution.bit_length() - 3)]
