"""What is wrong with what a player returned, in words that follow `returns`."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.objectives.outputs import scales_of
from framework.utils.errors import FrameworkError


def samples_fault(output: object, shape: tuple[int, ...]) -> str | None:
    """Say what is wrong with what a generator returned; None if nothing is.

    Args:
        output: must be samples of `shape`, (N, C, H, W) for pictures.
        shape: the shape of the data's samples.
    """
    what = "images" if len(shape) == 4 else "samples"
    if not isinstance(output, Tensor):
        return f"a {type(output).__name__}: it must return the {what} alone, one tensor"
    if tuple(output.shape) != shape:
        axes = "(N, channels, height, width)" if len(shape) == 4 else "(N, ...)"
        hint = (
            ": take `resolution` and `channels` as options of the constructor, the recipe passes them on"
            if len(shape) == 4
            else ""
        )
        return f"{what} of shape {tuple(output.shape)} where the data has {shape} {axes}{hint}"
    if output.dtype != torch.float32:
        return f"{what} of {output.dtype}: they must be torch.float32" + (" in [-1, 1]" if len(shape) == 4 else "")
    return _cut_off(output, what)


def logits_fault(output: object, count: int, *, patches: bool = False) -> str | None:
    """Say what is wrong with what a discriminator returned; None if nothing is.

    Args:
        output: must be logits (count,), or a dataclass with a field `logits`; see `framework.objectives.outputs`.
        count: the number of samples.
        patches: whether logits may have further axes, (count, ...).
    """
    try:
        scales = scales_of(output)
    except FrameworkError:
        return f"a {type(output).__name__}: it must return the logits alone, one tensor, or a dataclass with `logits`"
    for logits in scales:
        fits = logits.shape[:1] == (count,) if patches else tuple(logits.shape) == (count,)
        if not fits:
            hint = {2: "; .squeeze(1) drops an axis of length 1", 4: "; .mean((1, 2, 3)) takes the mean over patches"}
            return (
                f"logits of shape {tuple(logits.shape)} for {count} images: losses take one logit per image, shape (N,)"
                f"{hint.get(logits.dim(), '')}"
            )
        if not logits.dtype.is_floating_point:
            return f"logits of {logits.dtype}: they must be floating-point numbers"
        if fault := _cut_off(logits, "logits"):
            return fault
    return None


def _cut_off(output: Tensor, what: str) -> str | None:
    if output.requires_grad:
        return None
    return f"{what} through which no gradient reaches its parameters (torch.no_grad, .detach() or .data in forward?)"
