"""Labels as networks take them: class indices (N,), or weights over classes (N, classes) such as one-hot rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.sizes import check_choice
from framework.utils.errors import FrameworkError

Condition = Literal["none", "concatenation"]
"""How a network of points or pictures is told the class: not at all, or by a one-hot label beside its input, as in the
conditional GAN (arXiv:1411.1784); see `with_labels`."""


def check_labels(labels: Tensor | None, *, classes: int) -> None:
    """Refuse missing labels, and labels of the wrong shape, if a network has classes.

    Args:
        labels: (N,) class indices, or (N, classes) weights over classes.
        classes: number of classes; 0 accepts anything, because labels are ignored.

    Raises:
        FrameworkError: labels are missing, or have the wrong shape; the message states the right one.
    """
    if not classes:
        return
    if labels is None:
        raise FrameworkError(f"this network was built with classes={classes}: pass labels, shape (N,)")
    if labels.dim() == 2 and labels.shape[1] != classes:
        raise FrameworkError(f"labels have shape {tuple(labels.shape)}; expected (N,) or (N, {classes})")


def one_hot(labels: Tensor | None, *, classes: int, dtype: torch.dtype) -> Tensor:
    """Return weights over classes (N, classes): indices (N,) become one-hot rows, weights are passed on.

    Raises:
        FrameworkError: labels are missing, or have the wrong shape.
    """
    check_labels(labels, classes=classes)
    assert labels is not None
    if labels.dim() == 1:
        labels = functional.one_hot(labels, classes)
    return labels.to(dtype)


def conditioned_on(condition: Condition, *, classes: int) -> int:
    """Return the number of classes whose one-hot labels a network takes beside its input; 0 without a condition.

    Raises:
        FrameworkError: the condition is unknown, or there are no classes to condition on.
    """
    check_choice("condition", condition, Condition)
    if condition == "none":
        return 0
    if not classes:
        raise FrameworkError(f"condition={condition!r} needs classes: give the data a number of them (`data.classes`)")
    return classes


def with_labels(x: Tensor, labels: Tensor | None, *, classes: int) -> Tensor:
    """Return vectors (N, C) or maps (N, C, H, W) with the one-hot label as further channels (arXiv:1411.1784).

    Args:
        x: the input of a network.
        labels: (N,) class indices, or (N, classes) weights over classes.
        classes: number of classes; 0 returns `x` itself.

    Raises:
        FrameworkError: labels are missing, or have the wrong shape.
    """
    if not classes:
        return x
    channels = one_hot(labels, classes=classes, dtype=x.dtype)
    if x.dim() == 4:
        channels = channels[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, channels], dim=1)
