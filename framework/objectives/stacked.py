"""The terms of a stacked GAN beside its adversarial losses: conditions that are kept, and noise that is not lost.

Huang et al., arXiv:1612.04357. What a generator makes must lead the encoder back to the condition that it was made of
(the conditional loss), and must vary with the noise, which a network Q reads off it (the entropy loss; both in section
3). Squared errors are means over all numbers, as in the authors' program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.terms import Term, TermInputs
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class LabelCondition(Term):
    """The conditional loss of the upper level, `weight * E[-log E(h)_y]`: the encoder's class of generated features.

    It is the cross-entropy of the encoder's last layer on features h of class y (arXiv:1612.04357, section 3).
    """

    weight: float | Ramp = 1.0

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean cross-entropy of `generated_classes` (N, classes) and `generated_label` (N,), a scalar.

        Raises:
            FrameworkError: the turn does not have them; they are those of the game `StackedGAN`.
        """
        logits, labels = (inputs.tensor(name) for name in ("generated_classes", "generated_label"))
        return functional.cross_entropy(at_least_fp32(logits), labels)


@dataclass(frozen=True, kw_only=True)
class FeatureCondition(Term):
    """The conditional loss of the lower level, `weight * mean((E(G0(h, z)) - h)^2)` (arXiv:1612.04357, section 3).

    The encoder's features of a generated picture should be those that it was made of.
    """

    weight: float | Ramp = 1.0

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean square of `recovered_features` - `condition`, (N, F) each, a scalar.

        Raises:
            FrameworkError: the turn does not have them, or they differ in shape; they are those of the game
                `StackedGAN`.
        """
        recovered, condition = (inputs.tensor(name) for name in ("recovered_features", "condition"))
        return _mean_square(recovered, condition, what="recovered_features and condition")


@dataclass(frozen=True, kw_only=True)
class NoiseEntropy(Term):
    """The entropy loss, `weight * mean((Q(x) - z)^2)`, summed over levels (arXiv:1612.04357, section 3).

    For a Q that predicts the mean of a normal distribution of fixed variance it is, up to a constant, the negative
    log-likelihood of the noise; the log-likelihood bounds the entropy of samples given their condition from below. The
    generators have it, and the discriminators, whose heads the networks Q are.
    """

    weight: float | Ramp = 10.0
    latents: tuple[str, ...] = ("z1", "z0")
    """The names of the noise in the order in which the discriminator's `noise` has it."""

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the sum over levels of the mean squared error, a scalar.

        Raises:
            FrameworkError: the discriminator returns no `noise`, or noise of other shapes than was drawn.
        """
        read = getattr(inputs.outputs.get("fake"), "noise", None)
        if not isinstance(read, tuple) or len(read) != len(self.latents):
            raise FrameworkError(
                f"NoiseEntropy: the discriminator must return a dataclass whose field `noise` is a tuple of "
                f"{len(self.latents)} tensors, the noise that it reads off samples"
            )
        errors = [
            _mean_square(found, inputs.tensor(name), what=f"the noise that was read and {name}")
            for found, name in zip(read, self.latents, strict=True)
        ]
        return torch.stack(errors).sum()


def _mean_square(first: Tensor, second: Tensor, *, what: str) -> Tensor:
    """Return the mean square of a difference, a scalar; broadcasting would mix samples, so shapes must be equal."""
    if first.shape != second.shape:
        raise FrameworkError(f"{what} have the shapes {tuple(first.shape)} and {tuple(second.shape)}: must be equal")
    return (at_least_fp32(first) - at_least_fp32(second)).square().mean()
