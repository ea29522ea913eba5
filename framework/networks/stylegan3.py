"""StyleGAN3, -t and -r: a generator without aliasing (Karras et al. 2021, arXiv:2106.12423).

Every layer is equivariant: if its input is translated or rotated, also by fractions of a pixel, its output is too, so
detail moves with surfaces and not with the pixel grid. The discriminator is StyleGAN2's.
"""

from __future__ import annotations

from collections.abc import Mapping as Options
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from framework.networks.blocks.alias_free_layer import Layer, ToImage
from framework.networks.blocks.flexible_layers import Signal, flexible_layers
from framework.networks.blocks.fourier import FourierInput
from framework.networks.blocks.mapping import Mapping
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError

TRANSLATION: Options[str, Any] = {"kernel": 3, "channel_base": 2**15, "channel_max": 512, "radial": False}
"""StyleGAN3-t, equivariant to translation (the defaults): `Network(stylegan3.Generator, **stylegan3.TRANSLATION)`."""

ROTATION: Options[str, Any] = {"kernel": 1, "channel_base": 2**16, "channel_max": 1024, "radial": True}
"""StyleGAN3-r, equivariant to rotation too: pointwise convolutions, twice the feature maps, radial filters."""

_IMAGE_SCALE = 0.25
"""The last layer writes black and white as -4 and 4 (appendix F.1, "Normalization")."""


class Generator(nn.Module):
    """StyleGAN3's generator: images (N, channels, resolution, resolution), in about [-1, 1], from latents and labels.

    The defaults are config T (StyleGAN3-t); `ROTATION` holds what config R changes. Frequencies are in cycles per width
    of the image.

    Args:
        resolution: side of the square image, a power of two of at least 16.
        channels: channels of the image, 3 for colour, 1 for grey.
        classes: number of classes; 0 = unconditional (labels ignored).
        z_dim: length of the latent.
        w_dim: length of a style vector.
        mapping_layers: layers of the mapping network.
        num_layers: N, the same at any resolution; one more layer, pointwise, makes the image.
        num_critical: how many of the last layers are critically sampled, from 1.
        kernel: side of the convolutions' kernels, odd.
        channel_base: C_base, number of feature maps times twice the cutoff frequency.
        channel_max: C_max, largest number of feature maps.
        radial: use radially symmetric low-pass filters where a layer is not critically sampled.
        first_cutoff: f_c,0, the bandwidth of the input.
        first_stopband: f_t,0, least acceptable stopband of the first layer.
        last_stopband_ratio: f_t,N / f_c,N.
        margin: pixels computed around the image, so that border effects stay outside it.
        filter_size: n, input pixels under an upsampling filter.
        oversampling: m, the sampling rate of the nonlinearity in multiples of the layer's.
        conv_clamp: bound on activations, against overflow of half precision; None = no bound.
        magnitude_keep: share of the old input magnitude kept per turn; the paper's 0.5 ** (batch_size / 20_000).
        w_avg_keep: share of the old mean style kept per turn.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        classes: int = 0,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 2,
        num_layers: int = 14,
        num_critical: int = 2,
        kernel: int = 3,
        channel_base: int = 2**15,
        channel_max: int = 512,
        radial: bool = False,
        first_cutoff: float = 2.0,
        first_stopband: float = 2**2.1,
        last_stopband_ratio: float = 2**0.3,
        margin: int = 10,
        filter_size: int = 6,
        oversampling: int = 2,
        conv_clamp: float | None = 256.0,
        magnitude_keep: float = 0.5 ** (32 / 20_000),
        w_avg_keep: float = 0.998,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, channels=channels, z_dim=z_dim, w_dim=w_dim)
        _check_kernels(kernel=kernel, filter_size=filter_size, oversampling=oversampling)
        self.z_dim, self.classes = z_dim, classes
        signals = flexible_layers(
            resolution=resolution,
            num_layers=num_layers,
            num_critical=num_critical,
            first_cutoff=first_cutoff,
            first_stopband=first_stopband,
            last_stopband_ratio=last_stopband_ratio,
            margin=margin,
            channel_base=channel_base,
            channel_max=channel_max,
        )
        self.synthesis = Synthesis(
            signals,
            channels=channels,
            w_dim=w_dim,
            kernel=kernel,
            radial=radial,
            filter_size=filter_size,
            oversampling=oversampling,
            conv_clamp=conv_clamp,
            magnitude_keep=magnitude_keep,
        )
        self.mapping = Mapping(
            z_dim=z_dim,
            w_dim=w_dim,
            num_ws=self.synthesis.num_ws,
            classes=classes,
            num_layers=mapping_layers,
            w_avg_keep=w_avg_keep,
        )

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: str | Tensor | None = None,
    ) -> Tensor:
        """Return images (N, channels, resolution, resolution) in about [-1, 1].

        Args:
            z: latents (N, z_dim), standard normal.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.
            psi: truncation towards the mean style; 1 = none.
            cutoff: number of first styles that are truncated; None = all. Style 0 places the image.
            noise: ignored. It exists so that all StyleGANs are called alike; per-pixel noise would stick to the grid.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        return self.synthesis(self.mapping(z, labels, psi=psi, cutoff=cutoff))


class Synthesis(nn.Module):
    """The synthesis network: style 0 is the input's, style i + 1 that of layer i.

    Args:
        signals: the signal after each layer, from `flexible_layers`.
        channels: channels of the image.
        w_dim: length of a style vector.
        kernel: side of the kernels of all layers but the last, which is pointwise.
        radial: see `Generator`.
        filter_size: see `Generator`.
        oversampling: see `Generator`.
        conv_clamp: see `Generator`.
        magnitude_keep: see `Generator`.
    """

    def __init__(
        self,
        signals: tuple[Signal, ...],
        *,
        channels: int,
        w_dim: int,
        kernel: int,
        radial: bool,
        filter_size: int,
        oversampling: int,
        conv_clamp: float | None,
        magnitude_keep: float,
    ) -> None:
        super().__init__()
        first, last = signals[0], signals[-1]
        self.num_ws = 1 + len(signals) + 1
        self.input = FourierInput(
            w_dim=w_dim,
            channels=first.channels,
            size=first.size,
            sampling_rate=first.sampling_rate,
            cutoff=first.cutoff,
        )
        filters: dict[str, Any] = {"filter_size": filter_size, "oversampling": oversampling, "radial": radial}
        common: dict[str, Any] = {"w_dim": w_dim, "conv_clamp": conv_clamp, "magnitude_keep": magnitude_keep}
        self.layers = nn.ModuleList(
            Layer(before, after, kernel=kernel, **filters, **common) for before, after in pairwise((first, *signals))
        )
        self.layers.append(ToImage(last.channels, channels, **common))

    def forward(self, ws: Tensor) -> Tensor:
        """Map styles (N, num_ws, w_dim) to images (N, channels, H, W), in the precision of the styles."""
        assert ws.shape[1] == self.num_ws, f"{ws.shape[1]} styles for {self.num_ws} places"
        x = self.input(ws[:, 0])
        for layer, w in zip(self.layers, ws[:, 1:].unbind(1), strict=True):
            x = layer(x, w)
        return x.to(ws.dtype) * _IMAGE_SCALE


def _check_kernels(*, kernel: int, filter_size: int, oversampling: int) -> None:
    """Raise a FrameworkError if a kernel or filter has no valid size."""
    check_sizes(classes=0, filter_size=filter_size, oversampling=oversampling)
    if kernel < 1 or kernel % 2 == 0:
        raise FrameworkError(f"kernel={kernel} must be odd: 1, 3, ...")
