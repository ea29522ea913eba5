"""Turns the scores of a tick into the signals that sentinels judge."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from framework.networks.blocks.spectral import spectral_norms
from framework.objectives.equilibrium import Equilibrium

BASELINE_TICKS = 5
"""Number of first ticks over which baselines are medians."""
WINNING_SHARE = 0.5
"""The share of an undecided discriminator's loss below which a discriminator is called winning."""
UNDECIDED_SHARE = 0.98
"""The share above which it is called undecided."""
_TINY = 1e-12


class Baselines:
    """Medians of the first ticks, against which growth is measured; part of a checkpoint."""

    def __init__(self) -> None:
        self._first: dict[str, list[float]] = {}

    def growth(self, name: str, value: float) -> float | None:
        """Return `value` relative to the median of the first `BASELINE_TICKS`; None while they are being collected."""
        first = self._first.setdefault(name, [])
        if len(first) < BASELINE_TICKS:
            if math.isfinite(value):  # what is not would make every later value look small
                first.append(value)
            return None
        return value / max(statistics.median(first), _TINY)

    def state(self) -> dict[str, list[float]]:
        """Return the values collected so far as JSON, for checkpoints."""
        return {name: list(values) for name, values in self._first.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._first = {name: [float(v) for v in values] for name, values in state.items()}


def signals(
    metrics: Mapping[str, float],
    *,
    equilibrium: Equilibrium,
    baselines: Baselines,
    steps: int,
    skipped_steps: int,
    sigmas: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the signals of a tick by name; those that this game does not have are left out.

    Args:
        metrics: means since the last tick, under the names of the alternating game.
        equilibrium: the equilibrium of the game's loss; the sign is measured from its logit already.
        baselines: the baselines of this run, which take these values in.
        steps: number of steps since the last tick, skipped ones included.
        skipped_steps: number of those steps that had a non-finite loss or gradient.
        sigmas: largest singular value of each layer, see `singular_values`; both players' under different names.
    """
    # Signals with a scale of their own.
    found: dict[str, float] = {"skipped_share": skipped_steps / steps} if steps else {}
    if "loss/D" in metrics and (share := equilibrium.share(metrics["loss/D"])) is not None:
        found["discriminator_loss_share"] = share
    if "sign/real" in metrics and equilibrium.logit is not None:
        found["sign_real"] = metrics["sign/real"]
    if "augment/p" in metrics:
        found["augment_p"] = metrics["augment/p"]

    # Signals that only their growth since the first ticks makes comparable.
    if {"logits/real", "logits/fake"} <= metrics.keys():  # a difference: the undecided logit cancels out
        gap = baselines.growth("logit_gap", abs(metrics["logits/real"] - metrics["logits/fake"]))
        found |= {} if gap is None else {"logit_gap_growth": gap}
    if {"grad_norm/D", "grad_norm/G"} <= metrics.keys():
        ratio = max(metrics["grad_norm/G"], _TINY) / max(metrics["grad_norm/D"], _TINY)
        found["gradient_imbalance"] = abs(math.log10(ratio))
    # A generator that has converged has small gradients, too; they have vanished where the discriminator wins.
    if "grad_norm/G" in metrics:
        share, left = found.get("discriminator_loss_share"), baselines.growth("grad_norm/G", metrics["grad_norm/G"])
        if share is not None and left is not None:
            found["generator_gradient"] = left if share < WINNING_SHARE else 1.0
    growths = [
        growth
        for name, value in (sigmas or {}).items()
        if (growth := baselines.growth(f"sigma/{name}", value)) is not None
    ]
    if growths:  # NaN is the largest of all; `max` alone would find it only in the first place
        found["singular_value_growth"] = max(growths, key=lambda growth: math.inf if math.isnan(growth) else growth)
    return found


def weak_discriminator(share: float | None, *, shift: float | None) -> float | None:
    """Return how far off samples are while the discriminator is undecided, 0 while it is not; None if unknown.

    Args:
        share: the discriminator's loss as a share of an undecided one's.
        shift: see `framework.sentinels.motion.shifted`.
    """
    if share is None or shift is None:
        return None
    return shift if share > UNDECIDED_SHARE else 0.0


def singular_values(network: nn.Module) -> dict[str, float]:
    """Return the largest singular value of every spectrally normalised layer by name; empty without such layers.

    This costs one matrix-vector product a layer and one read from the device. The weights must be materialised.
    """
    norms = spectral_norms(network)
    values = torch.stack(list(norms.values())).tolist() if norms else []
    return dict(zip(norms, values, strict=True))
