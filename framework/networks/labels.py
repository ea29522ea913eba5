"""Labels as networks take them: class indices (N,), or weights over classes (N, classes) such as one-hot rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from framework.errors import FrameworkError


def check_labels(labels: Tensor | None, *, classes: int) -> None:
    """Refuse a call without labels of a network that has classes, and labels of the wrong shape.

    Raises:
        FrameworkError: with the expected shape.
    """
    if not classes:
        return
    if labels is None:
        raise FrameworkError(f"this network was built with classes={classes}: pass labels, shape (N,)")
    if labels.dim() == 2 and labels.shape[1] != classes:
        raise FrameworkError(f"labels have shape {tuple(labels.shape)}; expected (N,) or (N, {classes})")


def one_hot(labels: Tensor | None, *, classes: int, dtype: torch.dtype) -> Tensor:
    """Weights over classes (N, classes): indices become one-hot rows, weights are passed on.

    Raises:
        FrameworkError: no labels, or of the wrong shape.
    """
    check_labels(labels, classes=classes)
    assert labels is not None
    if labels.dim() == 1:
        labels = functional.one_hot(labels, classes)
    return labels.to(dtype)
