"""Labels as networks take them: class indices (N,), or weights over classes (N, classes) such as one-hot rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from framework.utils.errors import FrameworkError


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
