"""What a network returns: a tensor, or a frozen dataclass of named tensors.

A discriminator that returns more than logits (features, classes, codes, logits of several scales) returns a frozen
dataclass with a field `logits`, a tensor or a tuple of tensors; terms read its other fields by their names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from framework.utils.errors import FrameworkError


def logits_of(output: Any) -> Tensor:
    """Return the logits in what a discriminator returned, for metrics, penalties and augmentation.

    Args:
        output: logits (N,) or, of patches, (N, ...); or a dataclass whose field `logits` holds them. Logits of several
            scales, a tuple, are joined to (N, all patches), one of (N,) counting as one patch.

    Raises:
        FrameworkError: it is neither.
    """
    scales = scales_of(output)
    return scales[0] if len(scales) == 1 else torch.cat([scale.reshape(len(scale), -1) for scale in scales], dim=1)


def scales_of(output: Any) -> tuple[Tensor, ...]:
    """Return the logits of every scale in what a discriminator returned; most have one.

    Raises:
        FrameworkError: it returned neither a tensor nor a dataclass with logits.
    """
    if isinstance(output, Tensor):
        return (output,)
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return (logits,)
    if isinstance(logits, tuple) and logits and all(isinstance(scale, Tensor) for scale in logits):
        return logits
    raise FrameworkError(
        f"the discriminator returned a {type(output).__name__}: it must return logits, one tensor, or a frozen "
        "dataclass with a field `logits`, a tensor or a tuple of them"
    )


def mapped(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return what a network returned with `function` applied to each of its tensors, of any shape."""
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, tuple):
        return tuple(mapped(part, function) for part in output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = {field.name: mapped(getattr(output, field.name), function) for field in dataclasses.fields(output)}
        return dataclasses.replace(output, **parts)
    return output
