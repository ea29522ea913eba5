"""BigGAN: SAGAN's blocks, a class embedding shared by all layers, and a latent that enters at every resolution.

Brock et al., arXiv:1809.11096, appendix B. The latent is split into equal chunks: the first makes the first feature
map; each other one, together with the class embedding, conditions the batch norms of one block. BigGAN-deep is in
`biggan_deep.py`. BigGAN-PyTorch's configurations without a shared embedding are `sagan.Generator`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks import sagan
from framework.networks.blocks.attention import SelfAttention2d
from framework.networks.blocks.embedding import ClassEmbedding
from framework.networks.blocks.init import Init, initialize
from framework.networks.blocks.norm import BatchNorm2d, Statistics, batch_norms
from framework.networks.blocks.residual import GeneratorBlock, convolution
from framework.networks.blocks.spectral import spectral_norm
from framework.networks.labels import check_labels
from framework.networks.sizes import (
    check_attention,
    check_resolution,
    check_sizes,
    first_side,
    generator_sides,
    generator_widths,
)
from framework.utils.errors import FrameworkError


class Generator(nn.Module):
    """BigGAN's generator: images (N, channels, resolution, resolution) in [-1, 1] from latents and labels.

    Args:
        resolution: side of the square image, 48 or a power of two of at least 32.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent; with `hierarchical`, a multiple of the number of blocks + 1 (at 128 px: 6).
        shared_dim: length of the class embedding.
        hierarchical: give each block one chunk of the latent ("skip-z"); otherwise all of it enters the first layer.
        width: channel multiplier (96 in the paper).
        multiples: channels of each feature map in multiples of `width`, coarsest first; None = `sizes.py`'s table.
        attention_at: side of the feature map that attends to itself (64 in the paper), 8 to `resolution`; None = none.
        spectral: spectral norm on every linear and convolution; the class embedding has none.
        statistics: images that batch norm averages over: `global` (of all processes) or `local` (of each).
        batch_norm_eps: added to batch norm's variances (StudioGAN uses 1e-4).
        batch_norm_momentum: weight of the new batch in running statistics.
        init: see `blocks.init.initialize`.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        z_dim: int = 120,
        shared_dim: int = 128,
        hierarchical: bool = True,
        width: int = 96,
        multiples: Sequence[int] | None = None,
        attention_at: int | None = None,
        spectral: bool = True,
        statistics: Statistics = "global",
        batch_norm_eps: float = 1e-5,
        batch_norm_momentum: float = 0.1,
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        check_resolution(resolution)
        check_sizes(classes=classes, channels=channels, z_dim=z_dim, shared_dim=shared_dim, width=width)
        sides = generator_sides(resolution)
        check_attention(attention_at, sides=sides)
        self.z_dim = z_dim
        self.classes = classes
        # What conditions the batch norms of a block: class embedding and chunk.
        self.chunk_dim = _chunk_dim(z_dim, num_chunks=len(sides) + 1) if hierarchical else None
        condition = (shared_dim if classes else 0) + (self.chunk_dim or 0)
        options: dict[str, Any] = {"eps": batch_norm_eps, "momentum": batch_norm_momentum, "statistics": statistics}
        norm = batch_norms(condition, spectral=spectral, **options)
        # The first feature map.
        widths = generator_widths(resolution, width=width, multiples=multiples)
        self.start = first_side(resolution)
        self.embedding = ClassEmbedding(classes, shared_dim) if classes else None
        self.linear = nn.Linear(self.chunk_dim or z_dim, widths[0] * self.start**2)
        if spectral:
            spectral_norm(self.linear)
        # Blocks that double the side, and attention after one of them.
        self.blocks = nn.ModuleList(
            GeneratorBlock(before, after, norm=norm, spectral=spectral) for before, after in pairwise(widths)
        )
        self.attention_after = None if attention_at is None else sides.index(attention_at)
        self.attention = None
        if self.attention_after is not None:
            self.attention = SelfAttention2d(widths[self.attention_after + 1], spectral=spectral)
        # The last feature map to pixels.
        self.norm = BatchNorm2d(widths[-1], **options)
        self.to_image = convolution(widths[-1], channels, kernel=3, spectral=spectral)
        initialize(self, init=init)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, channels, resolution, resolution) in [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        check_labels(labels, classes=self.classes)
        first, conditions = self._split(z, labels)
        x = self.linear(first).unflatten(1, (-1, self.start, self.start))
        for index, (block, condition) in enumerate(zip(self.blocks, conditions, strict=True)):
            x = block(x, condition)
            if self.attention is not None and index == self.attention_after:
                x = self.attention(x)
        return torch.tanh(self.to_image(functional.relu(self.norm(x))))

    def _split(self, z: Tensor, labels: Tensor | None) -> tuple[Tensor, list[Tensor | None]]:
        """Return the first layer's input (N, chunk_dim or z_dim), and for each block [embedding, chunk] (N, ...)."""
        embedded = None if self.embedding is None else self.embedding(labels)
        if self.chunk_dim is None:
            return z, [embedded] * len(self.blocks)
        first, *chunks = z.split(self.chunk_dim, dim=1)
        if embedded is None:
            return first, chunks
        return first, [torch.cat([embedded, chunk], 1) for chunk in chunks]


class Discriminator(sagan.Discriminator):
    """SAGAN's projection discriminator, which BigGAN keeps; the paper's has `width=96` and attention at 64 px.

    Its arguments are those of `sagan.Discriminator`.
    """


def _chunk_dim(z_dim: int, *, num_chunks: int) -> int:
    """Return the length of each of the latent's chunks."""
    chunk, rest = divmod(z_dim, num_chunks)
    if rest:
        lower, upper = chunk * num_chunks, (chunk + 1) * num_chunks
        raise FrameworkError(
            f"z_dim={z_dim} must be a multiple of {num_chunks} (the first layer and {num_chunks - 1} blocks take equal "
            f"chunks): {f'{lower} or ' if lower else ''}{upper}; or set hierarchical=False"
        )
    return chunk
