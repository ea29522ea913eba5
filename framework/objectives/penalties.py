"""Penalties of a turn: pure functions, and objects that add a weight and decide on which turns they are due.

A lazy penalty (`every=k`) is computed on every k-th turn with k times its weight (StyleGAN2, arXiv:1912.04958,
section 3.1). Penalties on input gradients need second derivatives, for which the engine must keep whole parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.terms import Discriminate, Term, TermInputs
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError


def input_gradient(network_fn: Discriminate, samples: Tensor, labels: Tensor | None) -> Tensor:
    """Return the gradient of each logit in its own sample, (N, ...), differentiable in the network's parameters.

    Samples are widened to fp32, so that the gradient's square is not rounded to half precision.

    Args:
        network_fn: the discriminator.
        samples: (N, ...).
        labels: (N,) or None.
    """
    samples = samples.detach().to(torch.promote_types(samples.dtype, torch.float32)).requires_grad_(True)
    logits = network_fn(samples, labels)
    (gradient,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    return gradient


def squared_norms(values: Tensor) -> Tensor:
    """Return the squared Euclidean norm of each sample of (N, ...), over all axes but the first, (N,)."""
    squares = values.square()
    axes = tuple(range(1, squares.dim()))
    return squares.sum(axes) if axes else squares  # an empty tuple means all axes to torch


def norms(values: Tensor) -> Tensor:
    """Return the Euclidean norm of each sample of (N, ...), over all axes but the first, (N,)."""
    # vector_norm has the subgradient 0 at 0, where a square root would give NaN.
    return torch.linalg.vector_norm(values.unsqueeze(-1).flatten(1), dim=1)


def interpolated(real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """Return `alpha real + (1 - alpha) fake`, (N, ...), without a graph.

    Args:
        real: samples (N, ...).
        fake: samples of the same shape.
        alpha: (N,) in [0, 1], the share of the real sample.

    Raises:
        FrameworkError: the shapes differ; broadcasting would mix samples.
    """
    if real.shape != fake.shape:
        raise FrameworkError(
            f"real samples have the shape {tuple(real.shape)} and generated ones {tuple(fake.shape)}: change the "
            "generator's output or the data, because a penalty between them needs equal shapes"
        )
    share = alpha.to(real.dtype).view(len(real), *(1 for _ in real.shape[1:]))
    return share * real.detach() + (1 - share) * fake.detach()


def r1(network_fn: Discriminate, samples: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the mean of the squared input-gradient norm, a scalar (Mescheder et al., arXiv:1801.04406, eq. 9).

    The factor gamma / 2 is not included; `R1` has it.

    Args:
        network_fn: the discriminator.
        samples: real samples (N, ...).
        labels: (N,) or None.
    """
    return squared_norms(input_gradient(network_fn, samples, labels)).mean()


def r2(network_fn: Discriminate, samples: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return `r1` of generated samples (N, ...), a scalar (arXiv:1801.04406, eq. 10)."""
    return r1(network_fn, samples, labels)


def gradient_penalty(
    network_fn: Discriminate,
    real: Tensor,
    fake: Tensor,
    labels: Tensor | None = None,
    *,
    alpha: Tensor,
    target: float = 1.0,
) -> Tensor:
    """Return WGAN-GP's `E[(|grad D(x)| - target)^2] / target^2` at `x = alpha real + (1 - alpha) fake`, a scalar.

    The source is Gulrajani et al., arXiv:1704.00028, eq. 3; the division is ProGAN's (arXiv:1710.10196, appendix A.1,
    target 750) and is left out for the zero-centred `target=0`.

    Args:
        network_fn: the discriminator.
        real: samples (N, ...).
        fake: samples of the same shape.
        labels: (N,) or None; the interpolated sample keeps the real one's label.
        alpha: (N,) uniform in [0, 1), the share of the real sample.
        target: the wanted gradient norm, not negative.

    Raises:
        FrameworkError: real and generated samples differ in shape.
    """
    lengths = norms(input_gradient(network_fn, interpolated(real, fake, alpha), labels))
    return (lengths - target).square().mean() / (target**2 or 1.0)


def drift(real_logits: Tensor) -> Tensor:
    """Return `E[D(real)^2]` of logits (N,), a scalar that keeps a Wasserstein critic near zero.

    The source is ProGAN, arXiv:1710.10196, appendix A.1.
    """
    return real_logits.to(torch.promote_types(real_logits.dtype, torch.float32)).square().mean()


def weights_of(network: nn.Module, *, exclude: tuple[str, ...] = ()) -> list[Tensor]:
    """Return the parameters with at least two axes, before spectral norm; `exclude` are beginnings of names."""
    return [p for name, p in network.named_parameters() if p.dim() >= 2 and not name.startswith(exclude)]


def orthogonal(network: nn.Module, *, modified: bool = True, exclude: tuple[str, ...] = ()) -> Tensor:
    """Return half the squared distance of all weight matrices from orthogonal rows, summed over them, a scalar.

    W is (out, everything else), before spectral norm. The half makes the gradient `2 (W W^T * (1 - I)) W`, which the
    published strength 1e-4 multiplies.

    Args:
        network: its parameters with at least two axes are the weights.
        modified: leave the diagonal free, `|W W^T * (1 - I)|^2 / 2` (BigGAN, arXiv:1809.11096, eq. 3); otherwise
            `|W W^T - I|^2 / 2` (Brock et al., arXiv:1609.07093).
        exclude: beginnings of the names of parameters that are left out.
    """
    weights = [weight.flatten(1) for weight in weights_of(network, exclude=exclude)]
    total = weights[0].new_zeros(()) if weights else torch.zeros(())
    for weight in weights:
        with torch.autocast(weight.device.type, enabled=False):
            total = total + 0.5 * _row_excess(weight, modified=modified)
    return total


def _row_excess(weight: Tensor, *, modified: bool) -> Tensor:
    """Return `|W W^T - D|^2` of W (out, in), a scalar; D is the diagonal of `W W^T` if `modified`, or else I."""
    num_rows, num_columns = weight.shape
    if num_rows <= num_columns:
        gram = weight @ weight.mT
        target = torch.diagonal(gram) if modified else gram.new_ones(num_rows)
        return (gram - torch.diag(target)).square().sum()
    # A tall W W^T can be huge (a generator's first layer: 16384 x 16384); |W W^T| = |W^T W|, and as more rows than
    # columns cannot be near orthogonal, the subtraction does not cancel.
    squared_norms = weight.square().sum(1)
    diagonal = squared_norms.square().sum() if modified else 2 * squared_norms.sum() - num_rows
    return (weight.mT @ weight).square().sum() - diagonal


@dataclass(frozen=True, kw_only=True)
class Penalty(Term):
    """The base of penalties: regularisers of a player, commonly weighted and lazy; they are scored with their weight.

    Raises:
        FrameworkError: `weight` is negative or not finite, or `every` is below 1.
    """

    players: ClassVar[tuple[str, ...]] = ("discriminator",)

    def metrics(self, value: Tensor, weighted: Tensor, *, player: str) -> dict[str, Tensor]:
        """Return the penalty as it is scored, with its weight and averaged over the turns; arguments as in `Term`."""
        return {f"penalty/{self.name}": weighted / self.every}


@dataclass(frozen=True, kw_only=True)
class R1(Penalty):
    """The R1 penalty `weight / 2 * E[|grad D(real)|^2]`; `weight` is the gamma of arXiv:1801.04406 and of StyleGAN."""

    needs_second_derivative: ClassVar[bool] = True

    def value(self, inputs: TermInputs) -> Tensor:
        """Return half the mean squared gradient norm at real images, a scalar."""
        return 0.5 * r1(inputs.discriminate, self._given(inputs.real, "real images"), inputs.labels)


@dataclass(frozen=True, kw_only=True)
class R2(Penalty):
    """The R2 penalty `weight / 2 * E[|grad D(fake)|^2]`: R1 at generated images (arXiv:1801.04406, eq. 10)."""

    needs_second_derivative: ClassVar[bool] = True

    def value(self, inputs: TermInputs) -> Tensor:
        """Return half the mean squared gradient norm at generated images, a scalar."""
        return 0.5 * r2(inputs.discriminate, self._given(inputs.fake, "generated images"), inputs.fake_labels)


@dataclass(frozen=True, kw_only=True)
class GradientPenalty(Penalty):
    """The penalty `weight * gradient_penalty(...)`, WGAN-GP with the usual weight 10; ProGAN's is `target=750`.

    Raises:
        FrameworkError: `target` is negative or not finite.
    """

    weight: float | Ramp = 10.0
    target: float = 1.0
    """The wanted gradient norm."""

    needs_second_derivative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.target) and self.target >= 0):
            raise FrameworkError(f"GradientPenalty: target={self.target} must be finite and at least 0")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean squared distance of gradient norms from the target, relative to the target, a scalar.

        The gradients are taken between real and generated images.

        Raises:
            FrameworkError: the turn has no real or no generated images, or they differ in shape.
        """
        return gradient_penalty(
            inputs.discriminate,
            self._given(inputs.real, "real images"),
            self._given(inputs.fake, "generated images"),
            inputs.labels,
            alpha=inputs.draw.uniform("gradient_penalty"),
            target=self.target,
        )


@dataclass(frozen=True, kw_only=True)
class Drift(Penalty):
    """The penalty `weight * E[D(real)^2]` (ProGAN, arXiv:1710.10196, appendix A.1)."""

    weight: float | Ramp = 1e-3

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean squared logit of real images, a scalar."""
        return drift(self._given(inputs.real_logits, "logits of real images"))


@dataclass(frozen=True, kw_only=True)
class Orthogonal(Penalty):
    """The penalty `weight * orthogonal(network)`, for either player."""

    weight: float | Ramp = 1e-4
    modified: bool = True
    """Leave the lengths of the rows free, as BigGAN does."""
    exclude: tuple[str, ...] = ()
    """Parameters left out, by the beginnings of their names (BigGAN's program: the class embedding)."""

    needs_parameters: ClassVar[bool] = True
    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return half the squared distance of the network's weights from orthogonality, a scalar."""
        return orthogonal(inputs.network, modified=self.modified, exclude=self.exclude)


@dataclass(frozen=True, kw_only=True)
class WeightDecay(Penalty):
    """The penalty `weight / 2 * |w|^2`, an L2 penalty on the weights of either player (Krogh & Hertz 1991).

    It is part of the loss, and so of the gradient that an adaptive optimiser scales, unlike the decay of `AdamW`.
    """

    weight: float | Ramp = 1e-4
    exclude: tuple[str, ...] = ()
    """Parameters left out, by the beginnings of their names."""

    needs_parameters: ClassVar[bool] = True
    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return half the sum of squares of all weights with at least two axes (no biases, no gains), a scalar."""
        weights = weights_of(inputs.network, exclude=self.exclude)
        total = weights[0].new_zeros(()) if weights else torch.zeros(())
        for weight in weights:
            total = total + 0.5 * at_least_fp32(weight).square().sum()
        return total
