"""Weight initialisation of a whole network, aware of spectral norm."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from framework.networks.blocks.norm import BatchNorm2d
from framework.networks.blocks.spectral import power_iteration
from framework.utils.errors import FrameworkError

Init = Literal["orthogonal", "xavier", "normal"]
"""A distribution of initial weights; see `initialize`."""


@torch.no_grad()
def initialize(network: nn.Module, *, init: Init) -> None:
    """Draw every linear, convolution and embedding weight anew from torch's global generator; biases become zero.

    `orthogonal`: Saxe et al., arXiv:1312.6120, as in BigGAN (arXiv:1809.11096). `xavier`: uniform, Glorot & Bengio
    2010, as in SAGAN's and SNGAN's programs. `normal`: N(0, 0.02^2), as in DCGAN (arXiv:1511.06434). The vectors of
    spectral norm are warmed up on the new weights.

    Raises:
        FrameworkError: `init` is unknown.
    """
    if init not in get_args(Init):
        raise FrameworkError(f"init={init!r} must be one of: {', '.join(get_args(Init))}")
    for module in network.modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            continue
        # The `module.weight` of a parametrized layer is computed on access; writing to it would have no effect.
        parametrized = parametrize.is_parametrized(module, "weight")
        _draw(module.parametrizations.weight.original if parametrized else module.weight, init=init)  # type: ignore[union-attr, arg-type]
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    power_iteration(network, steps=15)


@torch.no_grad()
def initialize_normal(network: nn.Module) -> None:
    """Draw every linear or (transposed) convolution from N(0, 0.02^2), gains of batch norm from N(1, 0.02^2).

    Biases become zero. This is the initialisation of DCGAN (arXiv:1511.06434, section 4; gains as in the authors'
    program), pix2pix (arXiv:1611.07004, section 6.2), CycleGAN and InfoGAN's program. Torch's global generator is used.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, BatchNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight, mean=1.0, std=0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _draw(weight: Tensor, *, init: Init) -> None:
    """Fill a weight, in place."""
    if init == "orthogonal":
        nn.init.orthogonal_(weight)
    elif init == "xavier":
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.normal_(weight, std=0.02)
