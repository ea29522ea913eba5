"""Bias, activation, gain and clamp in one call, as StyleGAN's layers use them (arXiv:1912.04958, appendix B).

Plain torch, so that autograd differentiates it any number of times. An activation brings the gain that restores the
variance of its input (sqrt(2) for rectifiers), so that weights can be drawn with unit gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from framework.utils.errors import FrameworkError

Activation = Literal["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """An activation and its defaults."""

    function: Callable[[Tensor, float], Tensor]
    """The activation as a function of x and alpha."""
    gain: float = 1.0
    """Factor that restores the variance of the input."""
    alpha: float = 0.0
    """Slope below zero, where the activation has one."""
    in_place: Callable[[Tensor, float], Tensor] | None = None
    """The same function in the memory of x; only where a positive factor may be applied before it instead of after."""


_KINDS: dict[Activation, _Kind] = {
    "linear": _Kind(function=lambda x, _: x),
    "relu": _Kind(
        function=lambda x, _: functional.relu(x), gain=math.sqrt(2), in_place=lambda x, _: functional.relu_(x)
    ),
    "lrelu": _Kind(function=functional.leaky_relu, gain=math.sqrt(2), alpha=0.2, in_place=functional.leaky_relu_),
    "tanh": _Kind(function=lambda x, _: torch.tanh(x)),
    "sigmoid": _Kind(function=lambda x, _: torch.sigmoid(x)),
    "elu": _Kind(function=lambda x, _: functional.elu(x)),
    "selu": _Kind(function=lambda x, _: functional.selu(x)),
    "softplus": _Kind(function=lambda x, _: functional.softplus(x)),
    "swish": _Kind(function=lambda x, _: functional.silu(x), gain=math.sqrt(2)),
}


def activation_gain(activation: Activation) -> float:
    """Return the gain that `bias_act` applies by default, a factor on the activation's result.

    Raises:
        FrameworkError: the activation is unknown.
    """
    return _kind(activation).gain


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation = "linear",
    dim: int = 1,
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Return `clamp(gain * activation(x + bias))`, in the shape and precision of x.

    Args:
        x: any shape.
        bias: (x.shape[dim],), one value per entry of dimension `dim`; None adds nothing.
        activation: one of `Activation`.
        dim: dimension of x that the bias belongs to.
        alpha: slope of `lrelu` below zero; None: 0.2. Other activations ignore it.
        gain: factor on the result; None: the activation's own, see `activation_gain`.
        clamp: bound on the absolute value, applied last; None: no bound. Half precision needs one.

    Raises:
        FrameworkError: the activation is unknown.
    """
    kind = _kind(activation)
    if bias is not None:
        x = x + bias.to(x.dtype).view([-1 if d == dim % x.dim() else 1 for d in range(x.dim())])
    alpha = kind.alpha if alpha is None else alpha
    gain = kind.gain if gain is None else gain
    if kind.in_place is not None and gain > 0.0 and gain != 1.0:
        # Autograd then keeps the result alone, which the next layer keeps anyway: a fifth of a generator's memory.
        x = kind.in_place(x * gain, alpha)
    else:
        x = kind.function(x, alpha)
        x = x if gain == 1.0 else x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def _kind(activation: Activation) -> _Kind:
    """Return the activation, or raise a FrameworkError if it is unknown."""
    if activation not in _KINDS:
        raise FrameworkError(f"activation={activation!r} must be one of: {', '.join(_KINDS)}")
    return _KINDS[activation]
