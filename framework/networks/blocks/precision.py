"""Where autocast must not reach."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """No autocast on the device of `like`; on the meta device, which has no autocast, nothing."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def follows_autocast(like: Tensor, allowed: bool) -> AbstractContextManager[object]:
    """Leave autocast as it is if `allowed`, else keep it out."""
    return nullcontext() if allowed else full_precision(like)
