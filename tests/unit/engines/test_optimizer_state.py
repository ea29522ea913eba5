"""Optimiser state that is created before torch creates it: it must be what torch would have begun with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from framework import SGD, Adam, AdamW, RMSProp
from framework.engines.optimizer_state import OptimizerState

OPTIMIZERS = (
    Adam(lr=0.1, betas=(0.5, 0.9)),
    AdamW(lr=0.1, betas=(0.5, 0.9)),
    RMSProp(lr=0.1),
    RMSProp(lr=0.1, momentum=0.5),
    SGD(lr=0.1),
    SGD(lr=0.1, momentum=0.5),
)
EVERY = pytest.mark.parametrize("spec", OPTIMIZERS, ids=repr)


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((3, 2), (4,))]


def stepped(spec: Any, *, created_before: bool) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Three steps from the same parameters and gradients."""
    trained = parameters()
    optimizer = spec.build(iter(trained))
    if created_before:
        OptimizerState(spec, optimizer, trained).create()
    for factor in (1.0, -2.0, 0.5):
        for parameter in trained:
            parameter.grad = factor * torch.ones_like(parameter)
        optimizer.step()
    return trained, optimizer


@EVERY
def test_state_created_before_the_first_step_changes_no_step(spec: Any) -> None:
    (plain, by_torch), (early, by_us) = stepped(spec, created_before=False), stepped(spec, created_before=True)
    for a, b in zip(plain, early, strict=True):
        assert torch.equal(a, b)
        assert by_torch.state[a].keys() == by_us.state[b].keys()
        for name, value in by_torch.state[a].items():
            assert torch.equal(value, by_us.state[b][name]), name


@EVERY
def test_the_step_count_is_set_for_every_parameter_also_before_the_first_step(spec: Any) -> None:
    trained = parameters()
    optimizer = spec.build(iter(trained))
    state = OptimizerState(spec, optimizer, trained)
    assert state.steps_taken == 0
    state.set_steps_taken(7)
    assert state.steps_taken == 7
    counted = [] if isinstance(spec, SGD) else [7, 7]
    assert [int(s["step"]) for s in optimizer.state.values() if "step" in s] == counted


def test_a_schedule_keeps_what_it_does_not_set() -> None:
    spec, trained = Adam(lr=0.1, betas=(0.5, 0.9)), parameters()
    optimizer = spec.build(iter(trained))
    state = OptimizerState(spec, optimizer, trained)
    state.set_schedule(lr_factor=0.5, hyperparameters=None)
    assert [(group["lr"], group["betas"]) for group in optimizer.param_groups] == [(0.05, (0.5, 0.9))]
    state.set_schedule(lr_factor=0.25, hyperparameters={"betas": (0.0, 0.99)})
    assert [(group["lr"], group["betas"]) for group in optimizer.param_groups] == [(0.025, (0.0, 0.99))]
