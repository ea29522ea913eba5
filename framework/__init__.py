"""Distributed, large-scale training of generative adversarial networks.

Recipes import from here: what is trained (`Recipe` and its parts) and `launch`. Names are loaded on first use, so
that small processes (the upload to MLflow, `framework --help`) do not pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.games.alternating import Alternating
    from framework.objectives.adversarial import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
    from framework.objectives.penalties import R1, R2, Drift, GradientPenalty, Orthogonal
    from framework.recipe import Adam, Averaging, Constant, Cosine, Linear, Network, Player, Recipe, Shards
    from framework.train.launch import launch

__version__ = "0.1.0"

_HOME = {
    "framework.games.alternating": ("Alternating",),
    "framework.objectives.adversarial": ("Hinge", "LeastSquares", "Minimax", "NonSaturating", "Wasserstein"),
    "framework.objectives.penalties": ("R1", "R2", "Drift", "GradientPenalty", "Orthogonal"),
    "framework.recipe": ("Adam", "Averaging", "Constant", "Cosine", "Linear", "Network", "Player", "Recipe", "Shards"),
    "framework.train.launch": ("launch",),
}

__all__ = [
    "R1",
    "R2",
    "Adam",
    "Alternating",
    "Averaging",
    "Constant",
    "Cosine",
    "Drift",
    "GradientPenalty",
    "Hinge",
    "LeastSquares",
    "Linear",
    "Minimax",
    "Network",
    "NonSaturating",
    "Orthogonal",
    "Player",
    "Recipe",
    "Shards",
    "Wasserstein",
    "launch",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'framework' has no attribute {name!r}")
