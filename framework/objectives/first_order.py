"""R1 without second derivatives, by a finite difference (Lin et al., arXiv:2501.08316, approximated R1).

The paper's term is `lambda * |D(x) - D(x + sigma eps)|^2` with standard normal `eps`, lambda = 100 and sigma = 0.01 for
images. Expanding D, `E_eps[(D(x + sigma eps) - D(x))^2] = sigma^2 |grad D(x)|^2 + O(sigma^4)`: divided by sigma^2, the
term estimates what R1 penalises, so a weight has the same meaning as R1's. The paper's setting is
`weight = 2 lambda sigma^2`.

The estimate is noisy: for one image and one draw its standard deviation is sqrt(2) times its value. Whether its
gradient in the parameters agrees with R1's depends on the network. Without kinks (SiLU, GELU) it does, up to noise.
With kinks (ReLU, leaky ReLU) it does not: if an activation's kink lies between x and x + sigma eps, the finite
difference has a gradient that R1's, taken at x alone, does not have, and that grows as 1 / sqrt(sigma).
`python -m benchmarks.first_order_r1` shows both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from framework.objectives.penalties import Penalty
from framework.objectives.terms import Discriminate, TermInputs
from framework.utils.errors import FrameworkError


def first_order_r1(
    network_fn: Discriminate, images: Tensor, labels: Tensor | None = None, *, noise: Tensor, sigma: float
) -> Tensor:
    """Return `mean of (D(x + sigma eps) - D(x))^2 / sigma^2`, an estimate of `penalties.r1` from forward passes alone.

    The estimate is exact in expectation if D is linear. If D is quadratic with Hessian H, it is too large by
    `sigma^2 / 4 (tr(H)^2 + 2 |H|^2)`. If a logit depends on the other images too (minibatch statistics), it measures
    how a logit changes with all images, whereas R1 measures how all logits change with one image.

    Args:
        network_fn: the discriminator; it must treat equal images equally (an augmentation needs the same draws).
        images: samples (N, ...), commonly images (N, C, H, W).
        labels: (N,) or None.
        noise: standard normal (K, N, ...), K draws per sample, for K + 1 forward passes.
        sigma: length of the step, in the units of the images.

    Returns:
        A scalar, differentiable in the network's parameters.
    """
    images = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    logits = network_fn(images, labels)
    squares = [(network_fn(images + sigma * eps.to(images.dtype), labels) - logits).square().mean() for eps in noise]
    return torch.stack(squares).mean() / sigma**2


@dataclass(frozen=True, kw_only=True)
class FirstOrderR1(Penalty):
    """The penalty `weight / 2 * first_order_r1(...)` at real images: R1 for discriminators too large to be kept whole.

    `R1` needs every parameter of the network on each process for as long as second derivatives are taken; this penalty
    needs only `num_draws + 1` more forward passes. `weight` is R1's gamma; with leaky ReLUs the gradient is tens of
    times longer than R1's, so a weight tuned for R1 is too large for them.

    Raises:
        FrameworkError: `sigma` is not a positive number, or `num_draws` is below 1.
    """

    sigma: float = 0.01
    """Length of the step in image units; images lie in [-1, 1]. Much smaller steps are lost in fp32 rounding."""
    num_draws: int = 1
    """Noise images per image; the variance is inversely proportional to their number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise FrameworkError(f"FirstOrderR1: sigma={self.sigma} must be a positive number")
        if self.num_draws < 1:
            raise FrameworkError(f"FirstOrderR1: num_draws={self.num_draws} must be at least 1")

    needs_second_derivative: ClassVar[bool] = False

    def value(self, inputs: TermInputs) -> Tensor:
        """Return half the estimated mean squared gradient norm at real images, a scalar."""
        real = self._given(inputs.real, "real images")
        draws = [inputs.draw.normal(f"first_order_r1/{k}", *real.shape[1:]) for k in range(self.num_draws)]
        noise = torch.stack(draws)
        return 0.5 * first_order_r1(inputs.discriminate, real, inputs.labels, noise=noise, sigma=self.sigma)
