"""A recipe's optimisers: torch's own as they are built, and the same steps as functions that can be differentiated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import SGD, Adam, AdamW, FrameworkError, Ramp, RecipeError, RMSProp
from framework.recipe import override
from framework.recipe.description import science, science_hash
from tests.helpers.play import small_recipe

OPTIMIZERS = (
    Adam(lr=0.01, betas=(0.5, 0.9)),
    Adam(lr=0.01, betas=(0.0, 0.9), beta2=Ramp(images=4, start=0.5, end=0.99)),
    AdamW(lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
    RMSProp(lr=0.01),
    RMSProp(lr=0.01, alpha=0.9, momentum=0.5),
    SGD(lr=0.1),
    SGD(lr=0.1, momentum=0.9),
    SGD(lr=0.1, momentum=0.9, nesterov=True),
)
EVERY = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
FP64 = 1e-12
STEPS = 6


def gradients_of(parameters: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    """A gradient that changes its sign and its size, and is 0 in one place."""
    return {name: torch.where(p > 2, 0.0, (-1.0) ** step * (p.detach() + step)) for name, p in parameters.items()}


def start(optimizer: Any) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    weights = {"a": torch.linspace(-1, 3, 6).double().view(2, 3), "b": torch.tensor([0.5, -0.25]).double()}
    return weights, {moment: {n: torch.zeros_like(w) for n, w in weights.items()} for moment in optimizer.moments}


@EVERY
def test_the_function_takes_the_steps_of_torchs_optimiser(optimizer: Any) -> None:
    weights, state = start(optimizer)
    trained = {name: nn.Parameter(w.clone()) for name, w in weights.items()}
    by_torch = optimizer.build(iter(trained.values()))
    for step in range(1, STEPS + 1):
        gradients = gradients_of(weights, step)
        # The learning rate moves, and whatever else does.
        lr, moved = optimizer.lr / step, optimizer.hyperparameters_at(step)
        weights, state = optimizer.update(weights, gradients, state, step=step, lr=lr, hyperparameters=moved)
        for group in by_torch.param_groups:
            group.update({**moved, "lr": lr})
        for name, parameter in trained.items():
            parameter.grad = gradients[name]
        by_torch.step()
    for name, parameter in trained.items():
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=FP64, atol=FP64)
        for moment in optimizer.moments:
            torch.testing.assert_close(state[moment][name], by_torch.state[parameter][moment], rtol=FP64, atol=FP64)


@EVERY
def test_the_function_can_be_differentiated_and_changes_nothing_in_place(optimizer: Any) -> None:
    weights, _ = start(optimizer)

    def after(*flat: Tensor) -> tuple[Tensor, ...]:
        p = {"a": flat[0]}
        s = {moment: {"a": value} for moment, value in zip(optimizer.moments, flat[2:], strict=True)}
        for step in (1, 2):
            p, s = optimizer.update(p, {"a": flat[1] * step}, s, step=step, lr=optimizer.lr)
        return (p["a"], *(s[moment]["a"] for moment in optimizer.moments))

    moments = [torch.full((2, 3), 0.3, dtype=torch.float64, requires_grad=True) for _ in optimizer.moments]
    values = weights["a"].clone().requires_grad_(), torch.full_like(weights["a"], 0.7).requires_grad_()
    assert torch.autograd.gradcheck(after, (*values, *moments))
    assert torch.equal(values[0], weights["a"])
    assert all(moment.eq(0.3).all() for moment in moments)


@EVERY
def test_a_gradient_that_has_always_been_0_has_a_derivative(optimizer: Any) -> None:
    weights, state = start(optimizer)
    gradient = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    after, _ = optimizer.update({"b": weights["b"]}, {"b": gradient}, state, step=1, lr=optimizer.lr)
    after["b"].sum().backward()
    assert gradient.grad is not None
    assert gradient.grad.isfinite().all()


def test_adam_is_built_as_before() -> None:
    optimizer = Adam(lr=2e-4, betas=(0, 0.9)).build(iter([nn.Parameter(torch.zeros(1))]))
    assert type(optimizer) is torch.optim.Adam
    plain = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=2e-4, betas=(0.0, 0.9), eps=1e-8)
    assert optimizer.defaults == plain.defaults
    assert Adam(lr=1.0, betas=(0, 0.9)).hyperparameters_at(7) == {"betas": (0.0, 0.9)}


def test_moments_follow_from_the_fields() -> None:
    assert [o.moments for o in (SGD(lr=1), SGD(lr=1, momentum=0.9))] == [(), ("momentum_buffer",)]
    assert RMSProp(lr=1).moments == ("square_avg",)
    assert RMSProp(lr=1, momentum=0.9).moments == ("square_avg", "momentum_buffer")


def test_the_correction_for_lazy_penalties_keeps_the_kind_of_optimiser() -> None:
    corrected = AdamW(lr=0.002, betas=(0.0, 0.99), weight_decay=0.1).lazy(every=16)
    assert corrected == AdamW(lr=0.002 * 16 / 17, betas=(0.0, 0.99 ** (16 / 17)), weight_decay=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(lr=1, betas=(0.0, 1.0)), r"AdamW: betas=\(0.0, 1.0\) must lie in \[0, 1\)"),
        (lambda: AdamW(lr=1, weight_decay=-0.1), "AdamW: weight_decay=-0.1 must be at least 0"),
        (lambda: RMSProp(lr=0.0), "RMSProp: lr=0.0 must be positive"),
        (lambda: RMSProp(lr=1, alpha=1.0), "RMSProp: alpha=1.0 must be below 1"),
        (lambda: RMSProp(lr=1, momentum=float("nan")), "RMSProp: momentum=nan must be a finite number"),
        (lambda: SGD(lr=1, momentum=1.0), "SGD: momentum=1.0 must be below 1"),
        (lambda: SGD(lr=1, nesterov=True), "SGD: nesterov=True needs a momentum above 0"),
        (lambda: SGD(lr=1, nesterov=1), "SGD: nesterov=1 must be True or False"),
    ],
)
def test_what_cannot_work_is_named(make: Any, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        make()


def test_a_player_clips_weights_to_a_positive_size() -> None:
    recipe = small_recipe()
    for wrong in ("0", "-1", "nan"):
        with pytest.raises(FrameworkError, match="clip_weights"):
            override.apply(recipe, [f"discriminator.clip_weights={wrong}"])
    with pytest.raises(RecipeError, match="clip_weights_when='later' must be one of 'after', 'before'"):
        replace(recipe.discriminator, clip_weights_when="later")
    clipped = override.apply(recipe, ["discriminator.clip_weights=0.01"])
    before = override.apply(clipped, ["discriminator.clip_weights_when=before"])
    hashes = [science_hash(made) for made in (recipe, clipped, before)]
    # Recipes were hashed before a player could clip its weights.
    assert not {"clip_weights", "clip_weights_when"} & {*science(recipe)["discriminator"]}
    assert len(set(hashes)) == 3
