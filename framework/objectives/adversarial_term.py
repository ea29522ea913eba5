"""The adversarial loss as a term of both players."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from framework.objectives.adversarial import AdversarialLoss, with_draws
from framework.objectives.outputs import scales_of
from framework.objectives.terms import Term, TermInputs, letter_of
from framework.recipe.checks import ADDED_LATER
from framework.recipe.schedules import Ramp, Schedule, values_of
from framework.runtime.collectives import gathered_over_processes
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Adversarial(Term):
    """An adversarial loss; with logits of several scales, their mean or their sum.

    It is scored as `loss/D` and `loss/G`, without its weight.
    """

    loss: AdversarialLoss
    weight: float | Ramp = 1.0
    scales: Literal["mean", "sum"] = "mean"
    """How the losses of several scales are put together: pix2pixHD sums (arXiv:1711.11585), SPADE averages
    (arXiv:1903.07291)."""
    top_k: Schedule | None = field(default=None, metadata=ADDED_LATER)
    """The share of generated samples, those with the largest logits, that the generator's loss is a mean of (top-k
    training, arXiv:2002.06224); None: all. They are chosen in each micro-batch of all processes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k is None:
            return
        if not all(0 < share <= 1 for share in values_of(self.top_k)):
            raise FrameworkError(f"Adversarial: top_k={self.top_k} must be shares above 0 and at most 1")
        if self.loss.needs_real_logits:
            raise FrameworkError(
                f"Adversarial: top_k leaves out generated samples, and {type(self.loss).__name__} compares them with "
                "real ones: take another loss, or top_k=None"
            )

    @property
    def needs_real_output(self) -> bool:
        """Whether the generator's loss compares with the logits of real samples."""
        return self.loss.needs_real_logits

    def weighted(self, value: Tensor, *, images_seen: int) -> Tensor:
        """Return the loss, a scalar; one of weight 1 is handed on as it is."""
        plain = self.weight == 1.0 and self.every == 1
        return value if plain else super().weighted(value, images_seen=images_seen)

    def metrics(self, value: Tensor, weighted: Tensor, *, player: str) -> dict[str, Tensor]:
        """Return the loss without its weight, as `loss/D` or `loss/G`; arguments as in `Term`."""
        return {f"loss/{letter_of(player)}": value}

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the loss of the player whose turn it is, a scalar.

        Raises:
            FrameworkError: the turn has no logits of generated samples, or none of real ones where the loss needs them.
        """
        loss = with_draws(self.loss, inputs.draw)
        fake = self._scales(inputs, "fake", inputs.fake_logits)
        if inputs.player == "discriminator":
            real = self._scales(inputs, "real", inputs.real_logits)
            losses = [loss.discriminator(*pair) for pair in zip(real, fake, strict=True)]
        elif self.loss.needs_real_logits:
            real = self._scales(inputs, "real", inputs.real_logits)
            losses = [loss.generator(*pair) for pair in zip(fake, real, strict=True)]
        elif self.top_k is None:
            losses = [loss.generator(logits) for logits in fake]
        else:
            share = self.top_k.at(inputs.images_seen)
            losses = [self._of_best(loss, logits, share) for logits in fake]
        if len(losses) == 1:
            return losses[0]
        total = torch.stack(losses).sum()
        return total / len(losses) if self.scales == "mean" else total

    def _of_best(self, loss: AdversarialLoss, logits: Tensor, share: float) -> Tensor:
        """Return the generator's loss on the samples with the largest logits (N,) of all processes, a scalar.

        It is such that the mean over processes, weighted by their numbers of samples, is the mean over the chosen ones.
        """
        if logits.dim() != 1:
            raise FrameworkError(f"Adversarial: top_k takes one logit per sample, not the shape {tuple(logits.shape)}")
        everyone, mine = gathered_over_processes(logits.detach())
        count = math.ceil(share * len(everyone))
        # A stable order breaks ties by the place in the batch, alike on all processes.
        order = everyone.argsort(descending=True, stable=True)
        chosen = torch.zeros(len(everyone), dtype=torch.bool, device=logits.device)
        chosen[order[:count]] = True
        best = logits[chosen[mine]]
        if not len(best):
            return logits.sum() * 0.0  # this process still takes part in the backward pass
        return loss.generator(best) * (len(best) * len(everyone) / (count * len(logits)))

    def _scales(self, inputs: TermInputs, which: str, logits: Tensor | None) -> tuple[Tensor, ...]:
        if which in inputs.outputs:
            return scales_of(inputs.outputs[which])
        if logits is None:
            kind = "real" if which == "real" else "generated"
            raise FrameworkError(f"the adversarial loss needs logits of {kind} samples, which this turn does not have")
        return (logits,)
