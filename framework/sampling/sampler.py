"""Draws samples by position: sample i is a function of the network, the sampler and i, whoever draws it.

What a network makes of which inputs is a sampler's affair: `LatentSampler` is that of generators of pictures from
latents and labels. A game with other inputs (pictures to translate) or other samples (points, sounds) has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from framework.networks import latent_size
from framework.networks.latents import Latent
from framework.runtime.seeding import Draws, derive
from framework.sampling.draws import sample_codes
from framework.sampling.generate import generate, generate_vectors
from framework.sampling.latents import latents

BATCH_SIZE = 50
"""Number of samples that are drawn at once: which samples meet in a batch decides every rounding."""

_PURPOSE = "evaluation"


class Sampler(Protocol):
    """The samples that a network draws, by position."""

    @property
    def picture(self) -> str | None:
        """Name of the pictures, uint8 (n, 1 or 3, H, W), that metrics of pictures judge; None for other samples."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes of the tensor `label`, int64 (n,); 0 where there is none."""
        ...

    @property
    def count(self) -> int | None:
        """Number of samples, such as that of pictures to translate; None where any number can be drawn."""
        ...

    def draw(self, network: nn.Module, positions: range) -> dict[str, Tensor]:
        """Return the samples at these positions as named tensors (n, ...) on the host.

        Pictures are uint8, points and sounds float32. `network` is in eval mode; sharded engines communicate in its
        forward, so all processes draw equally often.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what the samples depend on besides the network, such as the seed, for protocols."""
        ...


@dataclass(frozen=True, kw_only=True)
class LatentSampler:
    """Samples of a generator that is called as `network(z, labels)`: pictures, or vectors such as points.

    Attributes:
        seed: seed of latents and labels.
        classes: number of classes; 0 for an unconditional generator.
        label_shares: share of each class; empty for equal shares. Use those of the real set.
        truncation: latent entries beyond it are drawn again, see `framework.sampling.latents`.
        options: further arguments of every forward, such as psi; see `style_options`.
        pairs: whether neighbours 2j and 2j + 1 share a class (for diversity inside a class).
        vectors: the name of the samples where they are no pictures.
        codes: what the generator is fed, where that is not one Gaussian vector; see `framework.networks.latents`.
    """

    seed: int = 0
    classes: int = 0
    label_shares: tuple[float, ...] = ()
    truncation: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    pairs: bool = False
    vectors: str = ""
    codes: tuple[Latent, ...] = ()

    @property
    def count(self) -> int | None:
        """None: there is no end of latents."""
        return None

    @property
    def picture(self) -> str | None:
        """The name of the pictures; None where samples are vectors."""
        return None if self.vectors else "image"

    def with_shares(self, label_counts: Sequence[int]) -> LatentSampler:
        """Return the sampler that draws classes with the shares that they have in a real set; equal where unknown.

        Args:
            label_counts: number of real samples of each class; empty, or of other classes, where they are not known.
        """
        known = len(label_counts) == self.classes
        return replace(self, label_shares=tuple(map(float, label_counts)) if known else ())

    def describe(self) -> dict[str, Any]:
        """Return seed, labels, truncation and, where they are named, the latents."""
        labels = "none"
        if self.classes:
            labels = "drawn with the real set's shares" if self.label_shares else "drawn with equal shares"
        style = {name: self.options.get(name) for name in ("psi", "cutoff", "noise")}
        named = {"latents": [str(latent) for latent in self.codes]} if self.codes else {}
        return {"seed": self.seed, "labels": labels, "truncation": self.truncation, **style, **named}

    def draw(self, network: nn.Module, positions: range) -> dict[str, Tensor]:
        """Return `image`, uint8 (n, 3, H, W), or vectors, float32 (n, ...), and with classes `label`, int64 (n,)."""
        labels, z = self.labels(positions), self.latents(network, positions)
        if self.vectors:
            samples = {self.vectors: generate_vectors(network, z, labels)}
        else:
            samples = {"image": self.pictures(network, z, labels)}
        return samples if labels is None else samples | {"label": labels}

    def pictures(self, network: nn.Module, z: Tensor, labels: Tensor | None) -> Tensor:
        """Draw uint8 pictures (n, 3, H, W) on the host from latents (n, z_dim) and labels (n,) int64."""
        return generate(network, z, labels, batch_size=BATCH_SIZE, options=self.options).expand(-1, 3, -1, -1)

    def latents(self, network: nn.Module, positions: range, *, purpose: str = _PURPOSE) -> Tensor:
        """Return the latents (n, z_dim) of the pictures at these positions, float32 on the host."""
        if self.codes:
            return sample_codes(self.codes, seed=self.seed, numbers=positions, purpose=purpose)
        z_dim = latent_size(network)
        rows = [
            latents(
                seed=derive(self.seed, i, bits=64), count=1, z_dim=z_dim, truncation=self.truncation, purpose=purpose
            )
            for i in positions
        ]
        return torch.cat(rows)

    def labels(self, positions: range) -> Tensor | None:
        """Return the labels (n,) int64 of the pictures at these positions; None for an unconditional generator."""
        if not self.classes:
            return None
        shares = torch.tensor(self.label_shares or (1.0,) * self.classes, dtype=torch.float64)
        upper = shares.cumsum(0) / shares.sum()
        places = [i // 2 if self.pairs else i for i in positions]
        draws = torch.cat(
            [Draws(seed=self.seed, images_seen=i).uniform(f"{_PURPOSE}/label", 1) for i in places]
        ).double()
        return torch.searchsorted(upper, draws, right=True).clamp_max(self.classes - 1)
