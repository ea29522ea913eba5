"""Penalties on input gradients besides WGAN-GP and R1: DRAGAN and the maximum gradient penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from framework.objectives.penalties import Penalty, gradient_penalty, input_gradient, interpolated, squared_norms
from framework.objectives.terms import Discriminate, TermInputs
from framework.recipe.schedules import Ramp
from framework.runtime.collectives import max_over_processes, sum_over_processes
from framework.utils.errors import FrameworkError


def max_gradient_penalty(
    network_fn: Discriminate, real: Tensor, fake: Tensor, labels: Tensor | None = None, *, alpha: Tensor
) -> Tensor:
    """Return `max |grad D(x)|^2` over the points `x = alpha real + (1 - alpha) fake` of all processes, a scalar.

    The source is Zhou et al., arXiv:1902.05687, section 4.2. If several points have the maximum, the gradient is the
    mean of theirs. The call is a collective.

    Args:
        network_fn: the discriminator.
        real: samples (N, ...).
        fake: samples of the same shape.
        labels: (N,) or None; the interpolated sample keeps the real one's label.
        alpha: (N,) uniform in [0, 1), the share of the real sample.

    Raises:
        FrameworkError: real and generated samples differ in shape.
    """
    squares = squared_norms(input_gradient(network_fn, interpolated(real, fake, alpha), labels))
    # Only the process that holds the maximum has a gradient, but all must return the same value: their losses are
    # averaged with weights, their shares of the batch, that sum to one.
    chosen = (squares == max_over_processes(squares.detach().max())).to(squares.dtype)
    total, number = sum_over_processes(torch.stack([(squares * chosen).sum(), chosen.sum()])).unbind()
    return total / number.detach()


@dataclass(frozen=True, kw_only=True)
class MaxGradientPenalty(Penalty):
    """The penalty `weight * max_gradient_penalty(...)`, with one maximum per micro-batch."""

    weight: float | Ramp = 10.0

    needs_second_derivative: ClassVar[bool] = True

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the largest squared gradient norm between real and generated images, a scalar; a collective."""
        return max_gradient_penalty(
            inputs.discriminate,
            self._given(inputs.real, "real images"),
            self._given(inputs.fake, "generated images"),
            inputs.labels,
            alpha=inputs.draw.uniform("max_gradient_penalty"),
        )


@dataclass(frozen=True, kw_only=True)
class Dragan(Penalty):
    """The DRAGAN penalty: WGAN-GP between each real image and a perturbed copy (Kodali et al., arXiv:1705.07215).

    As in the authors' program, the copy is `x + spread * std(real) * u` with u uniform in [0, 1) per pixel, and the
    penalty is taken at a uniformly drawn point between the two; the text has x plus normal noise instead. The standard
    deviation is that of all pixels of all processes.

    Raises:
        FrameworkError: `spread` is negative or not finite.
    """

    weight: float | Ramp = 10.0
    spread: float = 0.5
    """Largest perturbation, in standard deviations of the real images."""

    needs_second_derivative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.spread) and self.spread >= 0):
            raise FrameworkError(f"Dragan: spread={self.spread} must be finite and at least 0")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean squared distance of gradient norms from 1 around real images, a scalar; a collective."""
        real = self._given(inputs.real, "real images").detach()
        noise = inputs.draw.uniform("dragan/noise", *real.shape[1:]).to(real.dtype)
        perturbed = real + self.spread * _global_std(real) * noise
        alpha = inputs.draw.uniform("dragan/alpha")
        return gradient_penalty(inputs.discriminate, perturbed, real, inputs.labels, alpha=alpha)


def _global_std(images: Tensor) -> Tensor:
    """Return the unbiased standard deviation of all numbers in the images of all processes, a scalar."""
    x = images.double()
    count, total = sum_over_processes(torch.stack([x.new_full((), x.numel()), x.sum()])).unbind()
    squares = sum_over_processes((x - total / count).square().sum())
    return (squares / (count - 1)).sqrt().to(images.dtype)
