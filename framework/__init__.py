"""Distributed, large-scale training of generative adversarial networks.

Recipes import from here: what is trained (`Recipe` and its parts), `launch`, the bases of your own losses, penalties
and schedules, and the layers that a network of yours needs instead of torch's. Names are loaded on first use, so that
small processes (the upload to MLflow, `framework --help`) do not pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from framework.runtime.stopping import end_on_signals, is_program

if TYPE_CHECKING:
    from framework.augment import Augmentation
    from framework.augment.ada import Ada
    from framework.augment.diffaugment import DiffAugment
    from framework.evaluation.metrics import ModesHit, PairedL1, SampleMetric
    from framework.games.alternating import Alternating
    from framework.networks.blocks.dropout import Dropout
    from framework.networks.blocks.moving import MovingMean
    from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d
    from framework.networks.blocks.spectral import spectral_norm
    from framework.networks.draw import Draw
    from framework.objectives.adversarial import (
        AdversarialLoss,
        Hinge,
        LeastSquares,
        Minimax,
        NonSaturating,
        Wasserstein,
    )
    from framework.objectives.equilibrium import Equilibrium
    from framework.objectives.first_order import FirstOrderR1
    from framework.objectives.lecam import LeCam
    from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
    from framework.objectives.path_length import PathLength
    from framework.objectives.penalties import R1, R2, Drift, GradientPenalty, Orthogonal, Penalty, PenaltyInputs
    from framework.objectives.relativistic import RelativisticAverage, RelativisticPairing
    from framework.recipe import Averaging, Game, Network, Player, Recipe, Shards
    from framework.recipe.growth import Growth, Phase
    from framework.recipe.optimizers import Adam, Optimizer
    from framework.recipe.schedules import Constant, Cosine, Linear, Ramp, Schedule
    from framework.train.launch import launch
    from framework.utils.errors import FrameworkError, RecipeError

__version__ = "0.1.0"

_HOME = {
    "framework.augment": ("Augmentation",),
    "framework.augment.ada": ("Ada",),
    "framework.augment.diffaugment": ("DiffAugment",),
    "framework.utils.errors": ("FrameworkError", "RecipeError"),
    "framework.evaluation.metrics": ("ModesHit", "PairedL1", "SampleMetric"),
    "framework.games.alternating": ("Alternating",),
    "framework.recipe.growth": ("Growth", "Phase"),
    "framework.networks.blocks.dropout": ("Dropout",),
    "framework.networks.blocks.moving": ("MovingMean",),
    "framework.networks.blocks.norm": ("BatchNorm2d", "ConditionalBatchNorm2d"),
    "framework.networks.blocks.spectral": ("spectral_norm",),
    "framework.networks.draw": ("Draw",),
    "framework.objectives.adversarial": (
        "AdversarialLoss",
        "Hinge",
        "LeastSquares",
        "Minimax",
        "NonSaturating",
        "Wasserstein",
    ),
    "framework.objectives.equilibrium": ("Equilibrium",),
    "framework.objectives.first_order": ("FirstOrderR1",),
    "framework.objectives.lecam": ("LeCam",),
    "framework.objectives.lipschitz": ("Dragan", "MaxGradientPenalty"),
    "framework.objectives.path_length": ("PathLength",),
    "framework.objectives.penalties": (
        "R1",
        "R2",
        "Drift",
        "PenaltyInputs",
        "GradientPenalty",
        "Orthogonal",
        "Penalty",
    ),
    "framework.objectives.relativistic": ("RelativisticAverage", "RelativisticPairing"),
    "framework.recipe.optimizers": ("Adam", "Optimizer"),
    "framework.recipe": ("Averaging", "Game", "Network", "Player", "Recipe", "Shards"),
    "framework.recipe.schedules": ("Constant", "Cosine", "Linear", "Ramp", "Schedule"),
    "framework.train.launch": ("launch",),
}

__all__ = [
    "R1",
    "R2",
    "Ada",
    "Adam",
    "AdversarialLoss",
    "Alternating",
    "Augmentation",
    "Averaging",
    "BatchNorm2d",
    "ConditionalBatchNorm2d",
    "Constant",
    "Cosine",
    "DiffAugment",
    "Dragan",
    "Draw",
    "Drift",
    "Dropout",
    "Equilibrium",
    "FirstOrderR1",
    "FrameworkError",
    "Game",
    "GradientPenalty",
    "Growth",
    "Hinge",
    "LeCam",
    "LeastSquares",
    "Linear",
    "MaxGradientPenalty",
    "Minimax",
    "ModesHit",
    "MovingMean",
    "Network",
    "NonSaturating",
    "Optimizer",
    "Orthogonal",
    "PairedL1",
    "PathLength",
    "Penalty",
    "PenaltyInputs",
    "Phase",
    "Player",
    "Ramp",
    "Recipe",
    "RecipeError",
    "RelativisticAverage",
    "RelativisticPairing",
    "SampleMetric",
    "Schedule",
    "Shards",
    "Wasserstein",
    "launch",
    "spectral_norm",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'framework' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Importing torch takes seconds: a signal that arrives meanwhile ends a recipe as a later one would. Other programs are
# left alone.
if is_program(calls="launch"):
    end_on_signals()
