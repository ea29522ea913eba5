"""Full precision where it is needed: contexts without autocast, and wider copies of half-precision tensors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the device of `like`, a tensor of any shape.

    On the meta device, which has no autocast, the context does nothing.
    """
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def follows_autocast(like: Tensor, allowed: bool) -> AbstractContextManager[object]:
    """Return a context that leaves autocast as it is if `allowed`, and is `full_precision(like)` otherwise.

    Args:
        like: a tensor of any shape on the device in question.
        allowed: whether autocast may be active.
    """
    return nullcontext() if allowed else full_precision(like)


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Return a tensor of any shape in fp32, or as it is if its own precision is higher."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
