"""The mapping network of StyleGAN (arXiv:1812.04948, section 2): latents z, and labels, to style vectors w.

The file also holds the truncation trick (appendix B: styles are pulled towards their mean) and style mixing (section
3.1: layers from a crossover on take the style of a second latent). The same network, without latents, embeds labels for
a conditional discriminator (arXiv:2006.06676, appendix C).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import bias_act
from framework.networks.blocks.equalized import EqualizedLinear, pixel_norm
from framework.networks.blocks.moving import MovingMean
from framework.networks.blocks.precision import full_precision
from framework.networks.draw import Draw
from framework.networks.labels import one_hot
from framework.utils.errors import FrameworkError

Mix = tuple[Tensor, Tensor]
"""A second latent (N, z_dim) and, per image, the first layer (N,) that takes its style; `num_ws` = none."""


def drawn_mix(draw: Draw, *, z_dim: int, num_ws: int, share: float) -> Mix:
    """Draw style mixing for some of the images; the crossover is uniform over the layers from the second on.

    Args:
        draw: random numbers for N images.
        z_dim: length of a latent.
        num_ws: styles per image, at least 2.
        share: probability with which an image mixes, in [0, 1].

    Returns:
        Latents (N, z_dim), standard normal, and crossovers (N,) int64; `num_ws` where an image does not mix.
    """
    crossover = 1 + draw.integers("mix/layer", num_ws - 1)
    mixed = draw.uniform("mix/whether") < share
    return draw.normal("mix/z", z_dim), torch.where(mixed, crossover, num_ws)


class Mapping(nn.Module):
    """The mapping network, from latents (N, z_dim) and labels to styles (N, num_ws, w_dim).

    It works in the precision of its parameters, outside autocast.

    Args:
        z_dim: length of the latent; 0 = labels only.
        w_dim: length of a style vector.
        num_ws: styles per image, one for each layer of the synthesis network; None = one style (N, w_dim), and no
            mean style.
        classes: number of classes; 0 = unconditional.
        num_layers: fully connected layers.
        width: features of the hidden layers; None = `w_dim`.
        lr_multiplier: learning rate of the layers relative to other networks.
        w_avg_keep: per turn, the share of the old mean style in the new one.
        normalization: `each`: latent and label embedding are normalised, then joined (StyleGAN2); `joint`: joined, then
            normalised (StyleGAN).

    Raises:
        FrameworkError: there are neither latents nor labels, there is no layer, or `normalization` is unknown.
    """

    def __init__(
        self,
        *,
        z_dim: int = 512,
        w_dim: int = 512,
        num_ws: int | None,
        classes: int = 0,
        num_layers: int = 8,
        width: int | None = None,
        lr_multiplier: float = 0.01,
        w_avg_keep: float = 0.998,
        normalization: Literal["each", "joint"] = "each",
    ) -> None:
        super().__init__()
        if z_dim == 0 and classes == 0:
            raise FrameworkError("a mapping network needs latents (z_dim above 0) or labels (classes above 0)")
        if num_layers < 1:
            raise FrameworkError(f"num_layers={num_layers} of a mapping network must be at least 1")
        if normalization not in ("each", "joint"):
            raise FrameworkError(f"normalization={normalization!r} must be 'each' or 'joint'")
        self.z_dim, self.w_dim, self.num_ws, self.classes = z_dim, w_dim, num_ws, classes
        self.normalization = normalization
        embedded = 0
        if classes:
            embedded = w_dim
            self.embedding = EqualizedLinear(classes, embedded)
        widths = [z_dim + embedded, *[width or w_dim] * (num_layers - 1), w_dim]
        self.layers = nn.ModuleList(
            EqualizedLinear(before, after, lr_multiplier=lr_multiplier) for before, after in pairwise(widths)
        )
        self.w_avg = MovingMean((w_dim,), keep=w_avg_keep) if num_ws is not None else None

    def forward(
        self,
        z: Tensor | None,
        labels: Tensor | None = None,
        *,
        mix: Mix | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> Tensor:
        """Return styles (N, num_ws, w_dim), or (N, w_dim) if `num_ws` is None.

        In training they are noted for the mean style, see `MovingMean`.

        Args:
            z: (N, z_dim), standard normal; None if there are labels only.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.
            mix: style mixing; see `Mix`. Both styles of an image have the same label.
            psi: truncation: `w_avg + psi (w - w_avg)`; 1 = none.
            cutoff: number of first layers that are truncated; None = all.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        w = self.styles(z, labels)
        if self.w_avg is None or self.num_ws is None:
            return w
        self.w_avg.note(w)
        # Style mixing: layers before the crossover keep the image's own style.
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if mix is not None:
            second, crossover = mix
            own = torch.arange(self.num_ws, device=ws.device) < crossover[:, None]
            ws = torch.where(own[:, :, None], ws, self.styles(second, labels)[:, None])
        # Truncation towards the mean style.
        if psi == 1.0:
            return ws
        truncated = self.w_avg.value.lerp(ws, psi)
        return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

    def styles(self, z: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Return one style vector per latent, (N, w_dim), neither mixed nor truncated.

        Args:
            z: (N, z_dim), standard normal; None if there are labels only.
            labels: (N,) int64 or (N, classes) weights over classes; ignored without classes.

        Raises:
            FrameworkError: labels are missing, or have the wrong shape.
        """
        parameter = next(self.parameters())
        dtype = parameter.dtype
        parts = []
        with full_precision(parameter):
            if self.z_dim:
                assert z is not None
                parts.append(z.to(dtype))
            if self.classes:
                parts.append(self.embedding(one_hot(labels, classes=self.classes, dtype=dtype)))
            if self.normalization == "each":
                x = torch.cat([pixel_norm(part) for part in parts], dim=1)
            else:
                x = pixel_norm(torch.cat(parts, dim=1))
            for layer in self.layers:
                x = bias_act(layer(x), activation="lrelu")
        return x
