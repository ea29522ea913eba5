"""Recorded steps: a generator that looks ahead through its discriminator's optimiser, and RMSProp's first steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from framework import SGD, Adam, RMSProp

from . import load

FP64 = 1e-12


def mlp(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    """Two hidden layers with tanh, as in the demo notebook."""
    for layer in (0, 2, 4):
        x = functional.linear(x, parameters[f"{layer}.weight"], parameters[f"{layer}.bias"])
        x = torch.tanh(x) if layer < 4 else x
    return x


def loss_of(discriminator: dict[str, Tensor], generator: dict[str, Tensor], x: Tensor, z: Tensor) -> Tensor:
    on_real, on_fake = mlp(discriminator, x), mlp(discriminator, mlp(generator, z))
    return (functional.softplus(-on_real) + functional.softplus(on_fake)).mean()


@pytest.mark.parametrize(
    ("name", "optimizer", "count"),
    [
        ("k1_sgd", SGD(lr=0.1), 1),
        ("k5_sgd", SGD(lr=0.1), 5),
        ("k1_torch_adam", Adam(lr=0.01, betas=(0.5, 0.999)), 1),
        ("k5_torch_adam", Adam(lr=0.01, betas=(0.5, 0.999)), 5),
    ],
)
def test_looking_ahead_equals_the_recorded_steps_and_gradients(name: str, optimizer: Any, count: int) -> None:
    case = load("unrolled_gan", name)

    def part(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}

    discriminator, x, z = part(case.params, "D."), case.inputs["x"], case.inputs["z"]
    generator = {key: value.requires_grad_() for key, value in part(case.params, "G.").items()}
    # The look-ahead begins with the moments and the step count of the discriminator's own optimiser.
    recorded = {"exp_avg": part(case.inputs, "m/"), "exp_avg_sq": part(case.inputs, "v/")}
    state = {moment: recorded[moment] for moment in optimizer.moments}
    discriminator = {key: value.requires_grad_() for key, value in discriminator.items()}
    for index in range(count):
        loss = loss_of(discriminator, generator, x, z)
        found = torch.autograd.grad(loss, list(discriminator.values()), create_graph=True)
        gradients = dict(zip(discriminator, found, strict=True))
        discriminator, state = optimizer.update(discriminator, gradients, state, step=5 + index, lr=optimizer.lr)
    loss = loss_of(discriminator, generator, x, z)
    case.agrees(loss, case.outputs["unrolled_loss"], tolerance=FP64)
    for key, value in discriminator.items():
        case.agrees(value, case.outputs[f"D_{count}/{key}"], tolerance=FP64)
    # The generator's gradient goes through every step.
    (-loss).backward()
    for key, value in generator.items():
        assert value.grad is not None
        case.agrees(value.grad, case.gradients[f"G.{key}"], tolerance=FP64)


def test_rmsprop_is_torchs_and_not_tensorflows() -> None:
    case, optimizer = load("wgan_steps", "tf_rmsprop"), RMSProp(lr=5e-5)
    parameters = {"p": case.inputs["p"]}
    state = {"square_avg": {"p": torch.zeros_like(parameters["p"])}}
    for index in range(3):
        gradients = {"p": case.inputs[f"g_{index}"]}
        parameters, state = optimizer.update(parameters, gradients, state, step=index + 1, lr=optimizer.lr)
        case.agrees(parameters["p"], case.outputs[f"p_torch_{index}"], tolerance=FP64)
        assert not torch.allclose(parameters["p"], case.outputs[f"p_tf_{index}"], rtol=1e-6)
