"""Distributed, large-scale training of generative adversarial networks.

Recipes import from here: what is trained (`Recipe` and its parts) and `launch`. Names are loaded on first use, so
that small processes (the upload to MLflow, `framework --help`) do not pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from framework.runtime.stopping import end_on_signals, is_program

if TYPE_CHECKING:
    from framework.augment.ada import Ada
    from framework.augment.diffaugment import DiffAugment
    from framework.games.rules import Alternating
    from framework.growth import Growth, Phase
    from framework.objectives.adversarial import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
    from framework.objectives.equilibrium import Equilibrium
    from framework.objectives.first_order import FirstOrderR1
    from framework.objectives.lecam import LeCam
    from framework.objectives.path_length import PathLength
    from framework.objectives.penalties import R1, R2, Drift, GradientPenalty, Orthogonal
    from framework.objectives.relativistic import RelativisticAverage, RelativisticPairing
    from framework.recipe import Adam, Averaging, Network, Player, Recipe, Shards
    from framework.schedules import Constant, Cosine, Linear, Ramp
    from framework.train.launch import launch

__version__ = "0.1.0"

_HOME = {
    "framework.augment.ada": ("Ada",),
    "framework.augment.diffaugment": ("DiffAugment",),
    "framework.games.rules": ("Alternating",),
    "framework.objectives.adversarial": ("Hinge", "LeastSquares", "Minimax", "NonSaturating", "Wasserstein"),
    "framework.objectives.penalties": ("R1", "R2", "Drift", "GradientPenalty", "Orthogonal"),
    "framework.growth": ("Growth", "Phase"),
    "framework.objectives.equilibrium": ("Equilibrium",),
    "framework.objectives.first_order": ("FirstOrderR1",),
    "framework.objectives.lecam": ("LeCam",),
    "framework.objectives.path_length": ("PathLength",),
    "framework.objectives.relativistic": ("RelativisticAverage", "RelativisticPairing"),
    "framework.recipe": ("Adam", "Averaging", "Network", "Player", "Recipe", "Shards"),
    "framework.schedules": ("Constant", "Cosine", "Linear", "Ramp"),
    "framework.train.launch": ("launch",),
}

__all__ = [
    "R1",
    "R2",
    "Ada",
    "Adam",
    "Alternating",
    "Averaging",
    "Constant",
    "Cosine",
    "DiffAugment",
    "Drift",
    "Equilibrium",
    "FirstOrderR1",
    "GradientPenalty",
    "Growth",
    "Hinge",
    "LeCam",
    "LeastSquares",
    "Linear",
    "Minimax",
    "Network",
    "NonSaturating",
    "Orthogonal",
    "PathLength",
    "Phase",
    "Player",
    "Ramp",
    "Recipe",
    "RelativisticAverage",
    "RelativisticPairing",
    "Shards",
    "Wasserstein",
    "launch",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'framework' has no attribute {name!r}")


# A recipe takes seconds to import torch; told to stop meanwhile, it ends as it would later. Others are left alone.
if is_program(calls="launch"):
    end_on_signals()
