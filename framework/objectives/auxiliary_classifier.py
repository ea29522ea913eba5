"""The classification loss of AC-GAN (Odena et al., arXiv:1610.09585, equation 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.heads import head_of
from framework.objectives.terms import Term, TermInputs, letter_of
from framework.recipe.checks import check_fields
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError

ClassifierReading = Literal["paper", "real_only", "softmax_twice"]
"""Which samples are classified, and how; see `AuxiliaryClassifier`."""

_ADVICE = "give the discriminator a class head, such as Network(dcgan.Discriminator, class_head=True)"


@dataclass(frozen=True, kw_only=True)
class AuxiliaryClassifier(Term):
    """The term `weight * E[-log P(class | sample)]` of the discriminator's class head, for both players.

    The generator minimises it on its samples, the discriminator by one of three readings of the paper:

    * `paper`: the sum of the means over real and over generated samples (equation 3);
    * `real_only`: real samples alone, as StudioGAN does;
    * `softmax_twice`: as `paper`, with the head's softmax taken for logits, so that the loss is never below
      `log(1 + (C - 1) / e)` with C classes, as PyTorch-GAN does. It also divides both losses, with the adversarial
      part, by 4 in the discriminator and by 2 in the generator, which Adam does not see.

    WGAN-GP's conditional model has the weight 1 in the discriminator's terms and 0.1 in the generator's
    (arXiv:1704.00028, the authors' program). The discriminator's turn logs `accuracy/real` and `accuracy/fake`, the
    shares of samples whose class has the largest logit.
    """

    weight: float | Ramp = 1.0
    reading: ClassifierReading = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self)

    def metrics(self, value: Tensor, weighted: Tensor, *, player: str) -> dict[str, Tensor]:
        """Return the term of a player as it is, and with its weight; arguments as in `Term`."""
        name = f"term/{self.name}/{letter_of(player)}"
        return {name: value, f"{name}_weighted": weighted / self.every}

    def further_metrics(self, inputs: TermInputs) -> dict[str, Tensor]:
        """Return the accuracies on real and on generated samples, in the discriminator's turn."""
        if inputs.player != "discriminator":
            return {}
        found = {}
        for which in ("real", "fake"):
            logits, labels = self._classified(inputs, which)
            found[f"accuracy/{which}"] = (logits.argmax(1) == labels).to(logits.dtype).mean()
        return found

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the cross-entropy of the player whose turn it is, a scalar.

        Raises:
            FrameworkError: the discriminator has no class head, or the data has no classes.
        """
        if inputs.player != "discriminator":
            return self._cross_entropy(inputs, "fake")
        on_real = self._cross_entropy(inputs, "real")
        return on_real if self.reading == "real_only" else on_real + self._cross_entropy(inputs, "fake")

    def _cross_entropy(self, inputs: TermInputs, which: str) -> Tensor:
        logits, labels = self._classified(inputs, which)
        return functional.cross_entropy(logits.softmax(1) if self.reading == "softmax_twice" else logits, labels)

    def _classified(self, inputs: TermInputs, which: str) -> tuple[Tensor, Tensor]:
        """Return logits (N, C) of the classes of real or generated samples, and their labels (N,)."""
        logits = head_of(inputs, which, "classes", term=self, advice=_ADVICE)
        labels = inputs.labels if which == "real" else inputs.fake_labels
        if labels is None or labels.dim() != 1:
            what = "the data has none" if labels is None else f"they have the shape {tuple(labels.shape)}"
            raise FrameworkError(f"AuxiliaryClassifier needs labels, class numbers (N,): {what} (`data.classes`)")
        return at_least_fp32(logits), labels
