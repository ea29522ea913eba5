"""Optimiser state that is created before torch creates it: it must be what torch would have begun with."""

from __future__ import annotations

import torch
from torch import nn

from framework import Adam
from framework.engines.optimizer_state import set_schedule, set_steps_taken, state_of, steps_taken


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((3, 2), (4,))]


def stepped(*, created_before: bool) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Three steps of Adam from the same parameters and gradients."""
    trained = parameters()
    optimizer = Adam(lr=0.1, betas=(0.5, 0.9)).build(iter(trained))
    if created_before:
        for parameter in trained:
            state_of(optimizer, parameter, moments=Adam.moments)
    for factor in (1.0, -2.0, 0.5):
        for parameter in trained:
            parameter.grad = factor * torch.ones_like(parameter)
        optimizer.step()
    return trained, optimizer


def test_state_created_before_the_first_step_changes_no_step() -> None:
    (plain, by_torch), (early, by_us) = stepped(created_before=False), stepped(created_before=True)
    for a, b in zip(plain, early, strict=True):
        assert torch.equal(a, b)
        assert by_torch.state[a].keys() == by_us.state[b].keys()
        for name, value in by_torch.state[a].items():
            assert torch.equal(value, by_us.state[b][name]), name
    assert steps_taken(by_us) == steps_taken(by_torch) == 3


def test_the_step_count_is_set_for_every_parameter_also_before_the_first_step() -> None:
    trained = parameters()
    optimizer = Adam(lr=0.1).build(iter(trained))
    assert steps_taken(optimizer) == 0
    set_steps_taken(optimizer, trained, moments=Adam.moments, steps=7)
    assert [int(optimizer.state[parameter]["step"]) for parameter in trained] == [7, 7]
    assert steps_taken(optimizer) == 7


def test_a_schedule_keeps_betas_that_it_does_not_set() -> None:
    optimizer = Adam(lr=0.1, betas=(0.5, 0.9)).build(iter(parameters()))
    set_schedule(optimizer, lr=0.01, betas=None)
    assert [(group["lr"], group["betas"]) for group in optimizer.param_groups] == [(0.01, (0.5, 0.9))]
    set_schedule(optimizer, lr=0.02, betas=(0.0, 0.99))
    assert [(group["lr"], group["betas"]) for group in optimizer.param_groups] == [(0.02, (0.0, 0.99))]
