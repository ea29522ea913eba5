"""Weight initialisation of a whole network, aware of spectral norm."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

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


def _draw(weight: Tensor, *, init: Init) -> None:
    """Fill a weight, in place."""
    if init == "orthogonal":
        nn.init.orthogonal_(weight)
    elif init == "xavier":
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.normal_(weight, std=0.02)
