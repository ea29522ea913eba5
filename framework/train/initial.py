"""Begin a new run with the networks of another one, or of an import (transfer learning)."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from framework.checkpoint import Checkpoint, Piece, resolve
from framework.train.state import TrainingState
from framework.utils.errors import FrameworkError

log = logging.getLogger("framework")

_SIBLINGS = {"weight": "ema", "ema": "weight", "buffer": "ema_buffer", "ema_buffer": "buffer"}
"""The kind that stands in for one that the source does not have; optimiser moments start at zero."""


@torch.no_grad()
def initialise_from(source: Path, state: TrainingState) -> None:
    """Copy weights, averages and buffers of every player that `source` holds; other players stay freshly drawn.

    Args:
        source: a checkpoint, a run folder (its newest valid checkpoint) or a folder made by `framework import`.

    Raises:
        CheckpointError: there is nothing valid at `source`, or a tensor there has another shape.
        FrameworkError: `source` has no player in common with this run, or lacks a tensor of one.
    """
    checkpoint = resolve(source)
    known = set(checkpoint.keys())
    copied: dict[str, int] = {}
    for piece in state.pieces(own=False, buffers=True):
        side, kind, name = piece.key.split("/", 2)
        if kind in _SIBLINGS and any(key.startswith(f"{side}/") for key in known):
            _copy(checkpoint, known, piece, side, kind, name)
            copied[side] = copied.get(side, 0) + 1
    for side, engine in state.players.items():
        engine.commit()
        if side not in copied:
            log.warning("%s has no %s: it starts freshly initialised", checkpoint.path, side)
    if not copied:
        raise FrameworkError(
            f"--init-from {source}: it holds neither of {', '.join(state.players)}; choose another source"
        )


def _copy(checkpoint: Checkpoint, known: set[str], piece: Piece, side: str, kind: str, name: str) -> None:
    key = next((k for k in (piece.key, f"{side}/{_SIBLINGS[kind]}/{name}") if k in known), None)
    if key is None:
        raise FrameworkError(
            f"--init-from: {checkpoint.path} has no {piece.key}: choose a source with the recipe's networks"
        )
    checkpoint.fill(Piece(key=key, start=piece.start, values=piece.values, shape=piece.shape))
