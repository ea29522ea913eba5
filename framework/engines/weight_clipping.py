"""Weights that are kept in a box, as WGAN keeps those of its critic (Arjovsky et al. 2017, arXiv:1701.07875)."""

from __future__ import annotations

from typing import Literal

import torch

from framework.engines.base import Engine


class WeightClipping:
    """The weight clipping of one player: every trained weight is clamped by itself, on whichever process holds it.

    Args:
        limit: the largest absolute value of a weight, or None for no clipping.
        when: `after` every step, as the paper's algorithm 1 has it, or `before` every turn, as the authors' program
            does: then gradients are those of clipped weights, and opponents and averages see what the step made.
    """

    def __init__(self, limit: float | None = None, *, when: Literal["after", "before"] = "after") -> None:
        self._limit, self._when = limit, when
        self._turn_begun = False

    def begin_turn(self, engine: Engine) -> None:
        """Clip before the first forward pass of a turn, if that is asked for (a collective)."""
        if self._limit is not None and self._when == "before":
            self._clip(engine, self._limit)
            self._turn_begun = True

    def end_turn(self, engine: Engine, *, taken: bool) -> None:
        """Clip after a step unless it was skipped, if that is asked for (a collective)."""
        if self._limit is None:
            return
        if self._when == "before":
            assert self._turn_begun, "a game calls begin_turn before the first forward pass of a turn"
            self._turn_begun = False
        elif taken:
            self._clip(engine, self._limit)

    @torch.no_grad()
    def _clip(self, engine: Engine, limit: float) -> None:
        for parameter_slice in engine.slices(own=False, kinds=("weight",)):
            parameter_slice.values.clamp_(-limit, limit)
        engine.commit()
