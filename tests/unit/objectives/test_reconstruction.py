"""The distance between what was generated and what it should have been."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from framework import L1
from framework.objectives.terms import TermInputs
from framework.utils.errors import FrameworkError


def inputs(**changes: object) -> TermInputs:
    given: dict[str, object] = {
        "network": nn.Identity(),
        "discriminate": lambda samples, condition: samples,
        "draw": None,
        "memory": {},
        "images_seen": 0,
        "player": "generator",
        "rows": torch.arange(2),
        "real": torch.tensor([[1.0, -1.0], [0.0, 0.5]]),
        "fake": torch.tensor([[0.0, -1.0], [1.0, 0.0]], requires_grad=True),
    }
    return TermInputs(**(given | changes))  # type: ignore[arg-type]


def test_the_mean_absolute_difference_and_its_gradient() -> None:
    given = inputs()
    value = L1(weight=100.0).value(given)
    assert value.item() == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert L1(weight=100.0).weighted(value, images_seen=0).item() == pytest.approx(62.5)
    value.backward()
    fake = given.fake
    assert fake is not None
    assert fake.grad is not None
    assert torch.equal(fake.grad, torch.tensor([[-0.25, 0.0], [0.25, -0.25]]))


def test_halves_are_compared_in_single_precision() -> None:
    real, fake = (torch.full((1, 3), number).bfloat16() for number in (1.0, 2.0**-10))
    value = L1().value(inputs(real=real, fake=fake))
    assert value.dtype == torch.float32
    assert value.item() == 1 - 2.0**-10, "in bfloat16 it would be 1"


def test_tensors_by_name() -> None:
    fields = {"sketch": torch.zeros(2, 2)}
    assert L1(of=("fake", "sketch")).value(inputs(tensors=fields)).item() == pytest.approx(0.5)
    with pytest.raises(FrameworkError, match="drawing"):
        L1(of=("fake", "drawing")).value(inputs(tensors=fields))


def test_different_shapes_are_not_broadcast() -> None:
    with pytest.raises(FrameworkError, match=r"L1: fake has the shape \(2, 2\) and real \(1, 2\): they must be equal"):
        L1().value(inputs(real=torch.zeros(1, 2)))
