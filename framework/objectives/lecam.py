"""LeCam regularisation of a discriminator trained on few images (Tseng et al., arXiv:2104.03310)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from framework.objectives.penalties import Penalty
from framework.objectives.terms import TermInputs
from framework.recipe.schedules import Ramp
from framework.runtime.collectives import sum_over_processes
from framework.utils.errors import FrameworkError

_REAL, _FAKE = "lecam/real", "lecam/fake"


def lecam(real_logits: Tensor, fake_logits: Tensor, *, real_anchor: Tensor, fake_anchor: Tensor) -> Tensor:
    """Return `E[max(0, D(real) - fake_anchor)^2] + E[max(0, real_anchor - D(fake))^2]`, a scalar.

    This is arXiv:2104.03310, eq. 6, with the rectifiers of the authors' program. Without them the logits of a
    discriminator that errs would be penalised too.

    Args:
        real_logits: (N,).
        fake_logits: (N,).
        real_anchor: moving mean of the logits of real images, a scalar.
        fake_anchor: moving mean of the logits of generated images, a scalar.
    """
    above = functional.relu(real_logits - fake_anchor.to(real_logits))
    below = functional.relu(real_anchor.to(fake_logits) - fake_logits)
    return above.square().mean() + below.square().mean()


@dataclass(frozen=True, kw_only=True)
class LeCam(Penalty):
    """The penalty `weight * lecam(...)` with moving means of the logits as anchors.

    The paper's weights are 0.01 to 0.3 (arXiv:2104.03310). The means are taken over all processes, and move before each
    use. At first they are plain averages over the batches so far, so they are usable from the first one on; the authors
    wait for 1000 steps instead.

    Raises:
        FrameworkError: `decay` lies outside [0, 1).
    """

    weight: float | Ramp = 0.3
    decay: float = 0.99
    """The largest weight of the old mean in the new one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.decay < 1.0:
            raise FrameworkError(f"LeCam: decay={self.decay} must lie in [0, 1)")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean squared distances of the logits beyond the other side's anchor, a scalar; a collective."""
        real = self._given(inputs.real_logits, "logits of real images")
        fake = self._given(inputs.fake_logits, "logits of generated images")
        self._move_anchors(inputs, real, fake)
        return lecam(real, fake, real_anchor=inputs.memory[_REAL], fake_anchor=inputs.memory[_FAKE])

    @torch.no_grad()
    def _move_anchors(self, inputs: TermInputs, real: Tensor, fake: Tensor) -> None:
        """Move the anchors towards the means of this batch, and count the move."""
        memory = inputs.memory
        rows = torch.stack([_sum_and_count(real), _sum_and_count(fake)])
        sums, counts = sum_over_processes(rows).unbind(1)
        moves = memory.get("lecam/moves", sums.new_zeros(())).to(sums) + 1
        keep = (1 - 1 / moves).clamp(max=self.decay)
        for name, mean in zip((_REAL, _FAKE), sums / counts, strict=True):
            memory[name] = torch.lerp(mean, memory.get(name, mean).to(mean), keep)
        memory["lecam/moves"] = moves


def _sum_and_count(logits: Tensor) -> Tensor:
    """Return the sum and the number of the logits, (2,) float64."""
    return torch.stack([logits.double().sum(), logits.new_full((), logits.numel()).double()])
