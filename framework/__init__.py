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
    from framework.data.computed import Computed, GridOfGaussians, RingOfGaussians
    from framework.data.derived import DerivedField, Edges, Holes, LowResolution, OneHot
    from framework.data.fields import Field, Image, Label, LabelMap, Mask
    from framework.data.points import Points, Vector
    from framework.evaluation.metrics import ModesHit, PairedL1, SampleMetric
    from framework.games.alternating import Alternating
    from framework.games.base import Game, Turn
    from framework.games.forward import Forward
    from framework.games.latent_game import LatentGame
    from framework.games.paired import Paired
    from framework.games.stacked import StackedGAN
    from framework.networks.blocks.dropout import Dropout
    from framework.networks.blocks.moving import MovingMean
    from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d
    from framework.networks.blocks.spectral import spectral_norm
    from framework.networks.draw import Draw
    from framework.networks.latents import Categorical, Gaussian, Latent, Uniform
    from framework.objectives.adversarial import (
        AdversarialLoss,
        Hinge,
        LeastSquares,
        Minimax,
        NonSaturating,
        Wasserstein,
    )
    from framework.objectives.adversarial_term import Adversarial
    from framework.objectives.equilibrium import Equilibrium
    from framework.objectives.first_order import FirstOrderR1
    from framework.objectives.lecam import LeCam
    from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
    from framework.objectives.path_length import PathLength
    from framework.objectives.penalties import R1, R2, Drift, GradientPenalty, Orthogonal, Penalty
    from framework.objectives.reconstruction import L1
    from framework.objectives.relativistic import RelativisticAverage, RelativisticPairing
    from framework.objectives.stacked import FeatureCondition, LabelCondition, NoiseEntropy
    from framework.objectives.terms import Term, TermInputs
    from framework.recipe import Averaging, Helper, Network, Player, Recipe, Shards, Sources
    from framework.recipe.growth import Growth, Phase
    from framework.recipe.optimizers import SGD, Adam, AdamW, LookAheadOptimizer, Optimizer, RMSProp
    from framework.recipe.schedules import Constant, Cosine, Linear, Ramp, Schedule
    from framework.train.launch import launch
    from framework.utils.errors import FrameworkError, RecipeError

__version__ = "0.1.0"

_HOME = {
    "framework.augment": ("Augmentation",),
    "framework.augment.ada": ("Ada",),
    "framework.augment.diffaugment": ("DiffAugment",),
    "framework.data.computed": ("Computed", "GridOfGaussians", "RingOfGaussians"),
    "framework.data.derived": ("DerivedField", "Edges", "Holes", "LowResolution", "OneHot"),
    "framework.data.fields": ("Field", "Image", "Label", "LabelMap", "Mask"),
    "framework.data.points": ("Points", "Vector"),
    "framework.utils.errors": ("FrameworkError", "RecipeError"),
    "framework.evaluation.metrics": ("ModesHit", "PairedL1", "SampleMetric"),
    "framework.games.alternating": ("Alternating",),
    "framework.games.base": ("Game", "Turn"),
    "framework.games.forward": ("Forward",),
    "framework.games.latent_game": ("LatentGame",),
    "framework.games.paired": ("Paired",),
    "framework.games.stacked": ("StackedGAN",),
    "framework.recipe.growth": ("Growth", "Phase"),
    "framework.networks.blocks.dropout": ("Dropout",),
    "framework.networks.blocks.moving": ("MovingMean",),
    "framework.networks.blocks.norm": ("BatchNorm2d", "ConditionalBatchNorm2d"),
    "framework.networks.blocks.spectral": ("spectral_norm",),
    "framework.networks.latents": ("Categorical", "Gaussian", "Latent", "Uniform"),
    "framework.networks.draw": ("Draw",),
    "framework.objectives.adversarial": (
        "AdversarialLoss",
        "Hinge",
        "LeastSquares",
        "Minimax",
        "NonSaturating",
        "Wasserstein",
    ),
    "framework.objectives.adversarial_term": ("Adversarial",),
    "framework.objectives.equilibrium": ("Equilibrium",),
    "framework.objectives.first_order": ("FirstOrderR1",),
    "framework.objectives.lecam": ("LeCam",),
    "framework.objectives.lipschitz": ("Dragan", "MaxGradientPenalty"),
    "framework.objectives.path_length": ("PathLength",),
    "framework.objectives.penalties": ("R1", "R2", "Drift", "GradientPenalty", "Orthogonal", "Penalty"),
    "framework.objectives.reconstruction": ("L1",),
    "framework.objectives.relativistic": ("RelativisticAverage", "RelativisticPairing"),
    "framework.objectives.stacked": ("FeatureCondition", "LabelCondition", "NoiseEntropy"),
    "framework.objectives.terms": ("Term", "TermInputs"),
    "framework.recipe.optimizers": ("Adam", "AdamW", "LookAheadOptimizer", "Optimizer", "RMSProp", "SGD"),
    "framework.recipe": ("Averaging", "Helper", "Network", "Player", "Recipe", "Shards", "Sources"),
    "framework.recipe.schedules": ("Constant", "Cosine", "Linear", "Ramp", "Schedule"),
    "framework.train.launch": ("launch",),
}

__all__ = [
    "L1",
    "R1",
    "R2",
    "SGD",
    "Ada",
    "Adam",
    "AdamW",
    "Adversarial",
    "AdversarialLoss",
    "Alternating",
    "Augmentation",
    "Averaging",
    "BatchNorm2d",
    "Categorical",
    "Computed",
    "ConditionalBatchNorm2d",
    "Constant",
    "Cosine",
    "DerivedField",
    "DiffAugment",
    "Dragan",
    "Draw",
    "Drift",
    "Dropout",
    "Edges",
    "Equilibrium",
    "FeatureCondition",
    "Field",
    "FirstOrderR1",
    "Forward",
    "FrameworkError",
    "Game",
    "Gaussian",
    "GradientPenalty",
    "GridOfGaussians",
    "Growth",
    "Helper",
    "Hinge",
    "Holes",
    "Image",
    "Label",
    "LabelCondition",
    "LabelMap",
    "Latent",
    "LatentGame",
    "LeCam",
    "LeastSquares",
    "Linear",
    "LookAheadOptimizer",
    "LowResolution",
    "Mask",
    "MaxGradientPenalty",
    "Minimax",
    "ModesHit",
    "MovingMean",
    "Network",
    "NoiseEntropy",
    "NonSaturating",
    "OneHot",
    "Optimizer",
    "Orthogonal",
    "Paired",
    "PairedL1",
    "PathLength",
    "Penalty",
    "Phase",
    "Player",
    "Points",
    "RMSProp",
    "Ramp",
    "Recipe",
    "RecipeError",
    "RelativisticAverage",
    "RelativisticPairing",
    "RingOfGaussians",
    "SampleMetric",
    "Schedule",
    "Shards",
    "Sources",
    "StackedGAN",
    "Term",
    "TermInputs",
    "Turn",
    "Uniform",
    "Vector",
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
