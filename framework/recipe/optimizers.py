"""The optimisers of a recipe's players: what an optimiser is, and Adam, AdamW, RMSProp and SGD.

An optimiser in a recipe is a description. Each engine builds torch's optimiser from it, and a game that looks ahead
(Metz et al., arXiv:1611.02163) takes steps of it as a function that can be differentiated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from framework.recipe.checks import check_fields, require
from framework.recipe.schedules import Ramp, values_of
from framework.utils.ranges import Range

Tensors = Mapping[str, Tensor]
"""Tensors of any shapes by the name of their parameter."""


class Optimizer(Protocol):
    """An optimiser in a recipe: a description, from which each engine builds its own.

    All it remembers of a parameter are tensors of the parameter's shape that begin at zero, its moments, and the number
    of its steps. Engines that shard parameters also need it to be elementwise: what happens to a number may depend on
    no other number. Both are tried out when an engine is built (`framework.engines.optimizer_trial`).
    """

    @property
    def lr(self) -> float:
        """The learning rate, before the player's schedule."""
        ...

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of the optimiser's tensors by parameter, in checkpoints and in the state of torch's optimiser."""
        ...

    def hyperparameters_at(self, images_seen: int) -> Mapping[str, Any]:
        """Return what moves with the clock besides the learning rate, as entries of torch's `param_groups`."""
        ...

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        ...


class LookAheadOptimizer(Optimizer, Protocol):
    """An optimiser whose steps can be taken as a pure function, for games that look ahead."""

    def update(
        self,
        parameters: Tensors,
        gradients: Tensors,
        state: Mapping[str, Tensors],
        *,
        step: int,
        lr: float,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return parameters and state after one step; nothing is changed in place, and gradients flow through it.

        Args:
            parameters: the parameters by name, of any shapes.
            gradients: a gradient of the parameter's shape for each of them.
            state: for each of `moments` a tensor of the parameter's shape for each parameter.
            step: the number of this step, 1 for the first that is taken.
            lr: the learning rate of this step, the player's schedule included.
            hyperparameters: what `hyperparameters_at` says of this step; None: the fields as they are.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba, arXiv:1412.6980). GANs commonly use `betas=(0.0, 0.9)`.

    Raises:
        RecipeError: a field of another type, or betas outside [0, 1).
        FrameworkError: a learning rate or an eps out of range.
    """

    lr: Annotated[float, Range(above=0)]
    """Learning rate, before the player's schedule."""
    betas: tuple[float, float] = (0.0, 0.9)
    eps: Annotated[float, Range(least=0)] = 1e-8
    beta2: Ramp | None = None
    """Second beta as a function of the clock (arXiv:2501.05441); None: it stays `betas[1]`."""

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    """Names of the running means of the gradient and of its square."""

    def __post_init__(self) -> None:
        check_fields(self)
        betas = (*self.betas, *(values_of(self.beta2) if self.beta2 else ()))
        require(all(0.0 <= b < 1.0 for b in betas), f"{type(self).__name__}: betas={betas} must lie in [0, 1)")

    def lazy(self, *, every: int) -> Self:
        """Return this optimiser, corrected for one extra step with the lazy penalties after every `every` steps.

        With c = every / (every + 1) they are lr * c and betas ** c, so that the optimiser forgets as fast per image as
        without the extra steps (StyleGAN2, arXiv:1912.04958, appendix B). Use it with `Alternating(lazy_steps=True)`.
        """
        share = every / (every + 1)
        return replace(self, lr=self.lr * share, betas=(self.betas[0] ** share, self.betas[1] ** share))

    def hyperparameters_at(self, images_seen: int) -> Mapping[str, Any]:
        """Return both betas after `images_seen` images."""
        return {"betas": (float(self.betas[0]), self.betas[1] if self.beta2 is None else self.beta2.at(images_seen))}

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        betas = (float(self.betas[0]), float(self.betas[1]))
        return torch.optim.Adam(parameters, lr=self.lr, betas=betas, eps=self.eps)

    def update(
        self,
        parameters: Tensors,
        gradients: Tensors,
        state: Mapping[str, Tensors],
        *,
        step: int,
        lr: float,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return parameters and state after one step (algorithm 1); see `LookAheadOptimizer.update`."""
        beta1, beta2 = (hyperparameters or {}).get("betas", self.betas)
        means = {n: beta1 * state["exp_avg"][n] + (1 - beta1) * g for n, g in gradients.items()}
        squares = {n: beta2 * state["exp_avg_sq"][n] + (1 - beta2) * g.square() for n, g in gradients.items()}
        rate, correction = lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
        moved = {n: p - rate * means[n] / (_root(squares[n]) / correction + self.eps) for n, p in parameters.items()}
        return moved, {"exp_avg": means, "exp_avg_sq": squares}


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101, algorithm 2): weights shrink by
    `lr * weight_decay` of themselves in every step.

    Raises:
        RecipeError: a field of another type, or betas outside [0, 1).
        FrameworkError: a learning rate, an eps or a decay out of range.
    """

    weight_decay: Annotated[float, Range(least=0)] = 0.01

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        betas = (float(self.betas[0]), float(self.betas[1]))
        return torch.optim.AdamW(parameters, lr=self.lr, betas=betas, eps=self.eps, weight_decay=self.weight_decay)

    def update(
        self,
        parameters: Tensors,
        gradients: Tensors,
        state: Mapping[str, Tensors],
        *,
        step: int,
        lr: float,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return parameters and state after one step (algorithm 2); see `LookAheadOptimizer.update`."""
        shrunk = {name: p * (1 - lr * self.weight_decay) for name, p in parameters.items()}
        return super().update(shrunk, gradients, state, step=step, lr=lr, hyperparameters=hyperparameters)


@dataclass(frozen=True, kw_only=True)
class RMSProp:
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5) as in torch, the optimiser of WGAN (arXiv:1701.07875).

    TensorFlow 1 begins with a mean square of 1 and has `eps` inside the root, so that its first steps are shorter.

    Raises:
        RecipeError: a field of another type.
        FrameworkError: a field out of range.
    """

    lr: Annotated[float, Range(above=0)]
    """Learning rate, before the player's schedule."""
    alpha: Annotated[float, Range(least=0, below=1)] = 0.99
    """The share that the running mean of squared gradients keeps in a step."""
    eps: Annotated[float, Range(least=0)] = 1e-8
    momentum: Annotated[float, Range(least=0, below=1)] = 0.0
    """The share of the last step that the next one repeats."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of the running mean of squared gradients and, with momentum, of the sum of past steps."""
        return ("square_avg", "momentum_buffer") if self.momentum else ("square_avg",)

    def hyperparameters_at(self, images_seen: int) -> Mapping[str, Any]:
        """Return nothing: only the learning rate moves with the clock."""
        return {}

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        return torch.optim.RMSprop(
            parameters, lr=self.lr, alpha=self.alpha, eps=self.eps, momentum=float(self.momentum)
        )

    def update(
        self,
        parameters: Tensors,
        gradients: Tensors,
        state: Mapping[str, Tensors],
        *,
        step: int,
        lr: float,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return parameters and state after one step; see `LookAheadOptimizer.update`."""
        squares = {n: self.alpha * state["square_avg"][n] + (1 - self.alpha) * g.square() for n, g in gradients.items()}
        moves = {n: g / (_root(squares[n]) + self.eps) for n, g in gradients.items()}
        after = {"square_avg": squares}
        if self.momentum:
            moves = {n: self.momentum * state["momentum_buffer"][n] + move for n, move in moves.items()}
            after["momentum_buffer"] = moves
        return {n: p - lr * moves[n] for n, p in parameters.items()}, after


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013) if asked.

    Raises:
        RecipeError: a field of another type, or Nesterov's step without momentum.
        FrameworkError: a field out of range.
    """

    lr: Annotated[float, Range(above=0)]
    """Learning rate, before the player's schedule."""
    momentum: Annotated[float, Range(least=0, below=1)] = 0.0
    """The share that the running sum of gradients keeps in a step."""
    nesterov: bool = False
    """Whether the step is along the gradient plus the momentum that follows from it."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(not self.nesterov or self.momentum > 0, "SGD: nesterov=True needs a momentum above 0")

    @property
    def moments(self) -> tuple[str, ...]:
        """The name of the running sum of gradients; none without momentum."""
        return ("momentum_buffer",) if self.momentum else ()

    def hyperparameters_at(self, images_seen: int) -> Mapping[str, Any]:
        """Return nothing: only the learning rate moves with the clock."""
        return {}

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """Build torch's optimiser over `parameters`."""
        return torch.optim.SGD(parameters, lr=self.lr, momentum=float(self.momentum), nesterov=self.nesterov)

    def update(
        self,
        parameters: Tensors,
        gradients: Tensors,
        state: Mapping[str, Tensors],
        *,
        step: int,
        lr: float,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return parameters and state after one step; see `LookAheadOptimizer.update`."""
        if not self.momentum:
            return {n: p - lr * gradients[n] for n, p in parameters.items()}, {}
        sums = {n: self.momentum * state["momentum_buffer"][n] + g for n, g in gradients.items()}
        moves = {n: g + self.momentum * sums[n] for n, g in gradients.items()} if self.nesterov else sums
        return {n: p - lr * moves[n] for n, p in parameters.items()}, {"momentum_buffer": sums}


def _root(squares: Tensor) -> Tensor:
    """Return the square root of numbers from 0 on, whose derivative at 0 is 0 and not infinite.

    The mean square of a gradient that has always been 0 is 0; the infinite derivative times 0 would be NaN.
    """
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)
