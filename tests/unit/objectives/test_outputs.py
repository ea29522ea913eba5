"""What networks return: tensors or dataclasses, of one scale or several, and losses of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework import Adversarial, FrameworkError, Hinge, TermInputs
from framework.networks.draw import Draw
from framework.objectives.outputs import logits_of, mapped, scales_of


@dataclass(frozen=True)
class Judged:
    logits: Tensor | tuple[Tensor, ...]
    features: Any = None


SCALES = (torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([3.0, -3.0]))
"""Logits of two samples: two patches, and one."""


def inputs(player: str, **outputs: object) -> TermInputs:
    unused: Any = None
    draw: Draw = unused
    return TermInputs(network=nn.Identity(), discriminate=lambda x, _: x, draw=draw, player=player, outputs=outputs)


def test_logits_are_found_in_a_tensor_and_in_a_dataclass() -> None:
    assert logits_of(SCALES[1]) is SCALES[1]
    assert logits_of(Judged(SCALES[1])) is SCALES[1]
    assert logits_of(Judged((SCALES[0],))) is SCALES[0]


def test_logits_of_several_scales_are_joined_sample_by_sample() -> None:
    joined = logits_of(Judged((SCALES[0][:, :, None], SCALES[1][:, None])))
    assert joined.tolist() == [[0.5, -1.0, 3.0], [2.0, 0.0, -3.0]]
    assert logits_of(Judged((SCALES[1], SCALES[0]))).tolist() == [[3.0, 0.5, -1.0], [-3.0, 2.0, 0.0]]


@pytest.mark.parametrize("output", [None, (SCALES[0],), Judged(()), Judged([SCALES[0]])])  # type: ignore[arg-type]
def test_anything_else_is_refused_by_its_type(output: object) -> None:
    with pytest.raises(FrameworkError, match=f"returned a {type(output).__name__}: it must return logits"):
        scales_of(output)


def test_a_loss_of_several_scales_is_the_mean_or_the_sum_of_theirs() -> None:
    loss = Hinge()
    turn = inputs("discriminator", real=Judged(SCALES), fake=Judged(tuple(-scale for scale in SCALES)))
    each = [float(loss.discriminator(scale, -scale)) for scale in SCALES]
    assert each[0] != each[1]
    assert float(Adversarial(loss=loss).value(turn)) == pytest.approx(sum(each) / 2)
    assert float(Adversarial(loss=loss, scales="sum").value(turn)) == pytest.approx(sum(each))
    generator = float(Adversarial(loss=loss, scales="sum").value(inputs("generator", fake=Judged(SCALES))))
    assert generator == pytest.approx(-float(SCALES[0].mean() + SCALES[1].mean()))


def test_a_turn_without_logits_is_told() -> None:
    with pytest.raises(FrameworkError, match="needs logits of real samples"):
        Adversarial(loss=Hinge()).value(inputs("discriminator", fake=SCALES[1]))


def test_every_tensor_of_what_a_network_returned_is_mapped_and_the_rest_kept() -> None:
    @dataclass(frozen=True)
    class Outer:
        inner: Judged
        name: str

    doubled = mapped(Outer(Judged(SCALES, features=SCALES[1]), "kept"), lambda tensor: 2 * tensor)
    assert doubled.name == "kept"
    assert torch.equal(doubled.inner.features, 2 * SCALES[1])
    assert all(torch.equal(a, 2 * b) for a, b in zip(doubled.inner.logits, SCALES, strict=True))
