"""Networks as newcomers write them: plain torch, each with one habit that training would trip over."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.dropout import Dropout, dropout_seeds
from framework.networks.blocks.norm import BatchNorm2d
from framework.networks.draw import Draw

WIDTH = 8


class Generator(nn.Module):
    """(N, z_dim) -> (N, channels, resolution, resolution), unconditional."""

    def __init__(self, *, resolution: int, channels: int, z_dim: int = 6) -> None:
        super().__init__()
        self.z_dim, self.shape = z_dim, (channels, resolution, resolution)
        self.first, self.last = nn.Linear(z_dim, WIDTH), nn.Linear(WIDTH, channels * resolution**2)
        self.between: nn.Module = self.make()

    def make(self) -> nn.Module:
        """What stands between both layers."""
        return nn.SiLU()

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(self.last(self.between(self.first(z)))).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """(N, channels, resolution, resolution) -> (N,), unconditional."""

    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(channels * resolution**2, WIDTH), nn.Linear(WIDTH, 1)

    def features(self, images: Tensor) -> Tensor:
        """(N, WIDTH)."""
        return functional.silu(self.first(images.flatten(1)))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.last(self.features(images)).squeeze(1)


class WithoutLength(Generator):
    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__(resolution=resolution, channels=channels)
        del self.z_dim


class WithoutLabels(Generator):
    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]  # the mistake
        return super().forward(z)


class Larger(Generator):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return functional.interpolate(super().forward(z), scale_factor=2.0)


class Doubles(Generator):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(z).double()


class Pair(Generator):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(z), z


class Detached(Generator):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(z).detach()


class Misfit(Generator):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(z[:, :-1])


class HiddenOptions(Generator):
    def __init__(self, **options: int) -> None:
        super().__init__(**options)


class TorchNorm(Generator):
    def make(self) -> nn.Module:
        return nn.BatchNorm1d(WIDTH)


class TorchSyncNorm(Generator):
    def make(self) -> nn.Module:
        return nn.SyncBatchNorm(WIDTH)


class FunctionalNorm(Generator):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(functional.batch_norm(z, None, None, training=True))


class FrozenNorm(Generator):
    """A batch norm in evaluation mode uses stored statistics: nothing is wrong with it."""

    def make(self) -> nn.Module:
        return nn.BatchNorm1d(WIDTH).eval()


class OurNorm(Generator):
    def make(self) -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (WIDTH, 1, 1)), BatchNorm2d(WIDTH), nn.Flatten(1))


class TorchDropout(Generator):
    def make(self) -> nn.Module:
        return nn.Sequential(nn.SiLU(), nn.Dropout(0.3))


class TorchDropoutOff(Generator):
    def make(self) -> nn.Module:
        return nn.Dropout(0.0)


class RandomSlope(Generator):
    def make(self) -> nn.Module:
        return nn.RReLU()


class FunctionalDropout(Discriminator):
    def features(self, images: Tensor) -> Tensor:
        return functional.dropout(super().features(images), 0.3)


class Noisy(Discriminator):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images + 0.1 * torch.randn_like(images))


class OwnGenerator(Discriminator):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images) * torch.rand(1, generator=torch.Generator().manual_seed(1), device="cpu").item()


class NumpyNoise(Discriminator):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images * float(np.random.rand()))


class PythonNoise(Discriminator):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images * random.random())


class Counting(Discriminator):
    """Moves a buffer in forward."""

    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__(resolution=resolution, channels=channels)
        self.register_buffer("mean", torch.zeros(WIDTH))

    def features(self, images: Tensor) -> Tensor:
        x = super().features(images)
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


class TorchSpectralNorm(Discriminator):
    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__(resolution=resolution, channels=channels)
        self.first = nn.utils.parametrizations.spectral_norm(self.first)


class Column(Discriminator):
    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.last(self.features(images))


class Booleans(Discriminator):
    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(images) > 0


class Lazy(Discriminator):
    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__(resolution=resolution, channels=channels)
        self.first = nn.LazyLinear(WIDTH)


class Numbers(Discriminator):
    """Looks at numbers, which meta tensors do not have, in its constructor and in forward; works everywhere."""

    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__(resolution=resolution, channels=channels)
        self.shares = [share.item() for share in torch.linspace(0.5, 1.0, 3)]

    def features(self, images: Tensor) -> Tensor:
        return super().features(images) * (self.shares[0] if images.abs().max().item() > 1 else 1.0)


class NumbersAndDropout(Numbers):
    def features(self, images: Tensor) -> Tensor:
        return functional.dropout(super().features(images), 0.3)


class Groups(Numbers):
    """Works on batches of 8 and 16, not on two samples."""

    def features(self, images: Tensor) -> Tensor:
        assert len(images) % 4 == 0
        return super().features(images)


class Talkative(Numbers):
    """Asks for its rank, which a process has only once the launch has begun."""

    def features(self, images: Tensor) -> Tensor:
        return super().features(images) * (1 + 0 * dist.get_rank())


class DroppingGenerator(Generator):
    """Drops as games want it."""

    def make(self) -> nn.Module:
        return Dropout(0.3, layer=0)

    def stochastic(self, draw: Draw) -> dict[str, Tensor]:
        return {"dropout": dropout_seeds(draw)}

    def forward(self, z: Tensor, labels: Tensor | None = None, *, dropout: Tensor | None = None) -> Tensor:
        x = functional.silu(self.between(self.first(z), dropout))
        return torch.tanh(self.last(x)).unflatten(1, self.shape)


class DroppingDiscriminator(Discriminator):
    """The same, with whole channels in its first layer."""

    def __init__(self, *, resolution: int, channels: int) -> None:
        super().__init__(resolution=resolution, channels=channels)
        self.drop_pixels = Dropout(0.2, layer=0, whole_channels=True)
        self.drop = Dropout(0.4, layer=1)

    def stochastic(self, draw: Draw) -> dict[str, Tensor]:
        return {"dropout": dropout_seeds(draw)}

    def forward(self, images: Tensor, labels: Tensor | None = None, *, dropout: Tensor | None = None) -> Tensor:
        x = self.features(self.drop_pixels(images, dropout))
        return self.last(self.drop(x, dropout)).squeeze(1)


class SeedlessDropout(DroppingDiscriminator):
    """Forgets to pass the seeds on."""

    def forward(self, images: Tensor, labels: Tensor | None = None, *, dropout: Tensor | None = None) -> Tensor:
        return super().forward(images, labels)


class UnwantedInputs(DroppingDiscriminator):
    def stochastic(self, draw: Draw) -> dict[str, Tensor]:
        return {"drop": dropout_seeds(draw)}


class DrawingInputs(DroppingDiscriminator):
    """Draws where it should ask."""

    def stochastic(self, draw: Draw) -> dict[str, Tensor]:
        return super().stochastic(draw) | {"dropout": (1e6 * torch.randn(len(dropout_seeds(draw)))).long()}


class NoInputs(DroppingDiscriminator):
    def stochastic(self, draw: Draw) -> Tensor:  # type: ignore[override]
        return dropout_seeds(draw)


class Demanding(DroppingDiscriminator):
    """Cannot be called without what is drawn: nobody but the game calls a discriminator."""

    def forward(self, images: Tensor, labels: Tensor | None = None, *, dropout: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(images, labels, dropout=dropout)


class DemandingGenerator(DroppingGenerator):
    """The same; but a generator is sampled, too."""

    def forward(self, z: Tensor, labels: Tensor | None = None, *, dropout: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(z, labels, dropout=dropout)
