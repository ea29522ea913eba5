import pytest
import torch
from torch import Tensor

from framework.objectives.lecam import LeCam, lecam
from framework.objectives.terms import TermInputs
from framework.utils.errors import FrameworkError
from tests.helpers.draws import Given

REAL = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-0.4, 1.7], dtype=torch.float64)


def inputs(memory: dict[str, Tensor], real: Tensor = REAL, fake: Tensor = FAKE) -> TermInputs:
    return TermInputs(network=None, discriminate=None, draw=Given(), memory=memory, real_logits=real, fake_logits=fake)


def test_the_formula() -> None:
    value = lecam(REAL, FAKE, real_anchor=torch.tensor(0.5), fake_anchor=torch.tensor(-0.7))
    # Real logits above -0.7: 0.3 and 2.5; generated logits below 0.5: -0.4.
    torch.testing.assert_close(value, (REAL.new_tensor(1.0**2 + 3.2**2) / 3) + REAL.new_tensor(0.9**2) / 2)


def test_gradients_reach_logits_but_not_anchors() -> None:
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    memory: dict[str, Tensor] = {}
    LeCam()(inputs(memory, real, fake)).backward()
    assert real.grad.any()
    assert fake.grad.any()
    assert all(
        not value.requires_grad and value.dtype == torch.float64 and value.dim() == 0 for value in memory.values()
    )
    fixed = {name: value.clone() for name, value in memory.items()}
    anchors = {"real_anchor": fixed["lecam/real"], "fake_anchor": fixed["lecam/fake"]}
    assert torch.autograd.gradcheck(lambda r, f: lecam(r, f, **anchors), (real, fake))


def test_anchors_are_plain_means_first_and_moving_means_later() -> None:
    penalty, memory = LeCam(decay=0.75), {}
    seen = [REAL + shift for shift in (0.0, 1.0, 5.0, -2.0, 3.0, 4.0)]
    means = [batch.mean() for batch in seen]
    expected: list[Tensor] = []
    for turn, mean in enumerate(means):
        keep = min(0.75, turn / (turn + 1))
        expected.append(keep * expected[-1] + (1 - keep) * mean if expected else mean)
    for turn, batch in enumerate(seen):
        penalty(inputs(memory, real=batch))
        torch.testing.assert_close(memory["lecam/real"], expected[turn])
        if turn < 4:
            torch.testing.assert_close(memory["lecam/real"], torch.stack(means[: turn + 1]).mean())
    torch.testing.assert_close(memory["lecam/fake"], FAKE.mean())


def test_a_resumed_memory_goes_on_as_if_nothing_had_happened() -> None:
    penalty, straight = LeCam(decay=0.75), {}
    batches = [REAL + shift for shift in (0.0, 1.0, 5.0)]
    values = [penalty(inputs(straight, real=batch)) for batch in batches]
    resumed: dict[str, Tensor] = {}
    for batch in batches[:2]:
        penalty(inputs(resumed, real=batch))
    resumed = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in resumed.items()}
    assert torch.equal(penalty(inputs(resumed, real=batches[2])), values[2])
    assert {name: float(value) for name, value in resumed.items()} == {n: float(v) for n, v in straight.items()}


def test_the_memory_given_is_replaced_not_written_into() -> None:
    memory: dict[str, Tensor] = {}
    LeCam()(inputs(memory))
    kept = dict(memory)
    values = {name: float(value) for name, value in kept.items()}
    LeCam()(inputs(memory, real=REAL + 3))
    assert {name: float(value) for name, value in kept.items()} == values


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(FrameworkError, match=r"LeCam: decay=1\.0 must lie in"):
        LeCam(decay=1.0)
    with pytest.raises(FrameworkError, match="LeCam: weight=-1"):
        LeCam(weight=-1.0)
    with pytest.raises(FrameworkError, match="LeCam needs logits of real images"):
        LeCam()(TermInputs(network=None, discriminate=None, draw=Given(), fake_logits=FAKE))
