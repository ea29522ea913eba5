"""Dropout whose masks are functions of one seed per image (Srivastava et al. 2014, JMLR 15:1929).

`torch.nn.Dropout` draws from torch's generator, so its masks change with the number of processes or micro-batches, and
after a resume. Here the game provides the seeds, as it provides everything random: they depend on the clock and on the
image's place in the global batch. A network asks for them in `stochastic` and passes them on:

    def stochastic(self, draw):
        return {"dropout": dropout_seeds(draw)}

    def forward(self, images, labels=None, *, dropout=None):
        x = self.drop1(self.conv1(images), dropout)
        ...

The default None is for evaluation, where nothing is dropped unless the layer was built with `at_inference=True`.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from framework.networks.blocks.noise import seeded_uniform
from framework.networks.draw import Draw
from framework.utils.errors import FrameworkError


def dropout_seeds(draw: Draw) -> Tensor:
    """Return seeds (N,) int64 for all dropouts of one forward; `Dropout.layer` distinguishes the layers."""
    return draw.integers("dropout", 1 << 62)


class Dropout(nn.Module):
    """Dropout with seeded masks: in training each number is 0 with probability `p`, otherwise divided by 1 - p.

    In evaluation the input is returned unchanged, unless `at_inference`.

    Args:
        p: share that is dropped, in [0, 1).
        layer: number of this layer in its network; layers with the same number have the same masks.
        whole_channels: drop all numbers of a channel (N, C, ...) together, as `torch.nn.Dropout2d` does (Tompson et
            al., arXiv:1411.4280).
        at_inference: drop in evaluation as in training, where dropout is a network's source of noise (pix2pix,
            arXiv:1611.07004, section 3.3).

    Raises:
        FrameworkError: `p` lies outside [0, 1).
    """

    def __init__(self, p: float = 0.5, *, layer: int, whole_channels: bool = False, at_inference: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise FrameworkError(f"Dropout: p={p} must be at least 0 and below 1")
        self.p, self.layer, self.whole_channels, self.at_inference = p, layer, whole_channels, at_inference

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        flags = [name for name in ("whole_channels", "at_inference") if getattr(self, name)]
        return ", ".join([f"p={self.p}", f"layer={self.layer}", *(f"{flag}=True" for flag in flags)])

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Drop numbers, or with `whole_channels` channels, of x; same shape.

        Args:
            x: (N, ...), or (N, C, ...) with `whole_channels`; one row per image.
            seeds: (N,) int64, one per image; see `dropout_seeds`. Needed wherever numbers are dropped.

        Raises:
            FrameworkError: the seeds are needed and missing, or their number is not that of the images.
        """
        if not (self.training or self.at_inference) or self.p == 0.0:
            return x
        if seeds is None or len(seeds) != len(x):
            given = "no seeds" if seeds is None else f"{len(seeds)} seeds for {len(x)} images"
            when = "training" if self.training else "evaluation"
            raise FrameworkError(
                f"Dropout(layer={self.layer}): {given} in {when}; ask for dropout_seeds(draw) in the network's "
                "method stochastic(draw), and pass them on in its forward (framework/networks/blocks/dropout.py shows "
                "how)"
            )
        masked = x.shape[1:2] if self.whole_channels else x.shape[1:]
        kept = seeded_uniform(seeds, self.layer, math.prod(masked)) >= self.p
        shape = (len(x), *masked, *[1] * (x.dim() - 1 - len(masked)))
        return x * kept.view(shape) / (1.0 - self.p)
