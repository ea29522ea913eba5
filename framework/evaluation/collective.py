"""The exchange between ranks during an evaluation: sums, rows, one rank's tensors, and whether all of them are well."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from framework.evaluation.errors import EvaluationError
from framework.runtime.session import Session
from framework.utils.errors import FrameworkError

_BLOCK_BYTES = 64 << 20


def summed(session: Session, tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, in its own shape, type and device. A collective.

    It is sent in blocks, so that the session's device needs little memory; the tensor itself may be overwritten.
    """
    if session.world == 1:
        return tensor
    flat = tensor.reshape(-1)
    step = max(1, _BLOCK_BYTES // tensor.element_size())
    for start in range(0, flat.numel(), step):
        block = flat[start : start + step].to(session.device)
        dist.all_reduce(block)
        flat[start : start + step] = block.to(flat.device)
    return flat.view(tensor.shape)


def from_main(session: Session, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return rank 0's tensors on every rank, on the host; the others pass None. A collective.

    Tensors may have any shape; shapes and types are rank 0's. No file needs to be visible to all ranks.
    """
    if session.world == 1:
        return dict(tensors or {})
    listed = None
    if session.is_main:
        listed = json.dumps([[name, str(t.dtype)[6:], list(t.shape)] for name, t in (tensors or {}).items()])
    received = {}
    for name, kind, shape in json.loads(session.broadcast_text(listed)):
        mine = (tensors or {})[name] if session.is_main else torch.zeros(shape, dtype=getattr(torch, kind))
        # A broadcast is a sum in which the others are zero: it is sent in the same bounded blocks.
        received[name] = summed(session, mine.clone() if session.is_main else mine)
    return received


@contextlib.contextmanager
def together(session: Session, *, doing: str) -> Iterator[None]:
    """Fail on every rank when the block fails on one: the others would wait for it in a collective for ever.

    Raises:
        FrameworkError, OSError: this rank's own error.
        EvaluationError: another rank failed.
    """
    error: FrameworkError | OSError | None = None
    try:
        yield
    except (FrameworkError, OSError) as problem:
        error = problem
    failed = session.sum_over_ranks(float(error is not None))
    if error is not None:
        raise error
    if failed:
        raise EvaluationError(
            f"rank {session.rank}: {int(failed)} other rank(s) failed {doing}; their message says why"
        )
