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
    from framework.data.curves import SwissRoll, TwoMoons
    from framework.data.derived import DerivedField, Edges, Holes, LowResolution, OneHot
    from framework.data.fields import Field, Image, Label, LabelMap, Mask
    from framework.data.points import Points, Vector
    from framework.data.stacked import Stacked
    from framework.evaluation.metrics import (
        EarthMoversDistance,
        ModesHit,
        ModesKL,
        PairedL1,
        SampleMetric,
        StackedModes,
    )
    from framework.games.alternating import Alternating
    from framework.games.base import Game, Turn
    from framework.games.critic_steps import CriticSteps
    from framework.games.forward import Forward
    from framework.games.latent_game import LatentGame
    from framework.games.paired import Paired
    from framework.games.stacked import StackedGAN
    from framework.games.unrolled import Unrolled
    from framework.networks.blocks.dropout import Dropout
    from framework.networks.blocks.heads import DiscriminatorOutput
    from framework.networks.blocks.minibatch_discrimination import MinibatchDiscrimination
    from framework.networks.blocks.moving import MovingMean
    from framework.networks.blocks.norm import BatchNorm1d, BatchNorm2d, ConditionalBatchNorm2d
    from framework.networks.blocks.spectral import spectral_norm
    from framework.networks.draw import Draw
    from framework.networks.latents import Categorical, Gaussian, Latent, Uniform
    from framework.objectives.adversarial import (
        AdversarialLoss,
        Hinge,
        LeastSquares,
        MaximumLikelihood,
        Minimax,
        NonSaturating,
        StochasticLoss,
        Wasserstein,
    )
    from framework.objectives.adversarial_term import Adversarial
    from framework.objectives.auxiliary_classifier import AuxiliaryClassifier
    from framework.objectives.consistency import Consistency
    from framework.objectives.divergences import Divergence, WeightedJensenShannon
    from framework.objectives.equilibrium import Equilibrium
    from framework.objectives.fgan import FGAN
    from framework.objectives.first_order import FirstOrderR1
    from framework.objectives.lecam import LeCam
    from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
    from framework.objectives.mutual_information import GeneratorMutualInformation, MutualInformation
    from framework.objectives.path_length import PathLength
    from framework.objectives.penalties import R1, R2, Drift, GradientPenalty, Orthogonal, Penalty, WeightDecay
    from framework.objectives.reconstruction import L1
    from framework.objectives.relativistic import RelativisticAverage, RelativisticCentered, RelativisticPairing
    from framework.objectives.soft_labels import SoftLabels
    from framework.objectives.stacked import FeatureCondition, LabelCondition, NoiseEntropy
    from framework.objectives.terms import Term, TermInputs
    from framework.recipe import Averaging, Helper, Network, Player, Recipe, Shards, Sources
    from framework.recipe.growth import Growth, Phase
    from framework.recipe.optimizers import SGD, Adam, AdamW, LookAheadOptimizer, Optimizer, RMSProp
    from framework.recipe.schedules import Constant, Cosine, Linear, Ramp, Schedule, Stepwise
    from framework.train.launch import launch
    from framework.utils.errors import FrameworkError, RecipeError

__version__ = "0.1.0"

_HOME = {
    "framework.augment": ("Augmentation",),
    "framework.augment.ada": ("Ada",),
    "framework.augment.diffaugment": ("DiffAugment",),
    "framework.data.computed": ("Computed", "GridOfGaussians", "RingOfGaussians"),
    "framework.data.curves": ("SwissRoll", "TwoMoons"),
    "framework.data.derived": ("DerivedField", "Edges", "Holes", "LowResolution", "OneHot"),
    "framework.data.fields": ("Field", "Image", "Label", "LabelMap", "Mask"),
    "framework.data.points": ("Points", "Vector"),
    "framework.data.stacked": ("Stacked",),
    "framework.utils.errors": ("FrameworkError", "RecipeError"),
    "framework.evaluation.metrics": (
        "EarthMoversDistance",
        "ModesHit",
        "ModesKL",
        "PairedL1",
        "SampleMetric",
        "StackedModes",
    ),
    "framework.games.alternating": ("Alternating",),
    "framework.games.base": ("Game", "Turn"),
    "framework.games.critic_steps": ("CriticSteps",),
    "framework.games.forward": ("Forward",),
    "framework.games.latent_game": ("LatentGame",),
    "framework.games.paired": ("Paired",),
    "framework.games.unrolled": ("Unrolled",),
    "framework.games.stacked": ("StackedGAN",),
    "framework.recipe.growth": ("Growth", "Phase"),
    "framework.networks.blocks.dropout": ("Dropout",),
    "framework.networks.blocks.moving": ("MovingMean",),
    "framework.networks.blocks.heads": ("DiscriminatorOutput",),
    "framework.networks.blocks.minibatch_discrimination": ("MinibatchDiscrimination",),
    "framework.networks.blocks.norm": ("BatchNorm1d", "BatchNorm2d", "ConditionalBatchNorm2d"),
    "framework.networks.blocks.spectral": ("spectral_norm",),
    "framework.networks.latents": ("Categorical", "Gaussian", "Latent", "Uniform"),
    "framework.networks.draw": ("Draw",),
    "framework.objectives.adversarial": (
        "AdversarialLoss",
        "Hinge",
        "LeastSquares",
        "MaximumLikelihood",
        "Minimax",
        "NonSaturating",
        "StochasticLoss",
        "Wasserstein",
    ),
    "framework.objectives.adversarial_term": ("Adversarial",),
    "framework.objectives.auxiliary_classifier": ("AuxiliaryClassifier",),
    "framework.objectives.consistency": ("Consistency",),
    "framework.objectives.divergences": ("Divergence", "WeightedJensenShannon"),
    "framework.objectives.equilibrium": ("Equilibrium",),
    "framework.objectives.fgan": ("FGAN",),
    "framework.objectives.first_order": ("FirstOrderR1",),
    "framework.objectives.lecam": ("LeCam",),
    "framework.objectives.lipschitz": ("Dragan", "MaxGradientPenalty"),
    "framework.objectives.mutual_information": ("GeneratorMutualInformation", "MutualInformation"),
    "framework.objectives.path_length": ("PathLength",),
    "framework.objectives.penalties": ("R1", "R2", "Drift", "GradientPenalty", "Orthogonal", "Penalty", "WeightDecay"),
    "framework.objectives.reconstruction": ("L1",),
    "framework.objectives.relativistic": ("RelativisticAverage", "RelativisticCentered", "RelativisticPairing"),
    "framework.objectives.soft_labels": ("SoftLabels",),
    "framework.objectives.stacked": ("FeatureCondition", "LabelCondition", "NoiseEntropy"),
    "framework.objectives.terms": ("Term", "TermInputs"),
    "framework.recipe.optimizers": ("Adam", "AdamW", "LookAheadOptimizer", "Optimizer", "RMSProp", "SGD"),
    "framework.recipe": ("Averaging", "Helper", "Network", "Player", "Recipe", "Shards", "Sources"),
    "framework.recipe.schedules": ("Constant", "Cosine", "Linear", "Ramp", "Schedule", "Stepwise"),
    "framework.train.launch": ("launch",),
}

__all__ = [
    "FGAN",
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
    "AuxiliaryClassifier",
    "Averaging",
    "BatchNorm1d",
    "BatchNorm2d",
    "Categorical",
    "Computed",
    "ConditionalBatchNorm2d",
    "Consistency",
    "Constant",
    "Cosine",
    "CriticSteps",
    "DerivedField",
    "DiffAugment",
    "DiscriminatorOutput",
    "Divergence",
    "Dragan",
    "Draw",
    "Drift",
    "Dropout",
    "EarthMoversDistance",
    "Edges",
    "Equilibrium",
    "FeatureCondition",
    "Field",
    "FirstOrderR1",
    "Forward",
    "FrameworkError",
    "Game",
    "Gaussian",
    "GeneratorMutualInformation",
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
    "MaximumLikelihood",
    "MinibatchDiscrimination",
    "Minimax",
    "ModesHit",
    "ModesKL",
    "MovingMean",
    "MutualInformation",
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
    "RelativisticCentered",
    "RelativisticPairing",
    "RingOfGaussians",
    "SampleMetric",
    "Schedule",
    "Shards",
    "SoftLabels",
    "Sources",
    "Stacked",
    "StackedGAN",
    "StackedModes",
    "Stepwise",
    "StochasticLoss",
    "SwissRoll",
    "Term",
    "TermInputs",
    "Turn",
    "TwoMoons",
    "Uniform",
    "Unrolled",
    "Vector",
    "Wasserstein",
    "WeightDecay",
    "WeightedJensenShannon",
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
