"""Minibatch discrimination over two processes is that of the whole batch in one, to second order, for any split."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.networks.blocks.minibatch_discrimination import MinibatchDiscrimination
from framework.runtime.collectives import gathered_over_processes
from tests.helpers.spawn import run_ranks

SPLITS = {"even": (3, 3), "uneven": (5, 1), "empty": (6, 0)}
FORMS = ("paper", "program")
TOLERANCE = 1e-13
"""Of float64 sums of at most six terms of order 1, in another order."""


def build(form: str) -> MinibatchDiscrimination:
    torch.manual_seed(1)
    layer = MinibatchDiscrimination(4, num_kernels=3, kernel_dim=2, form=form).double()  # type: ignore[arg-type]
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def whole_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return x, torch.randn(6, 7, generator=generator, dtype=torch.float64)


def measure(form: str, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    """What a step with a gradient penalty derives from the layer; `sum.*` is to be added over processes."""
    layer, x = build(form), x.clone().requires_grad_(True)
    y = layer(x)
    loss = (y * dy).sum() + y.square().sum()
    parameters = dict(layer.named_parameters())
    first = torch.autograd.grad(loss, [x, *parameters.values()], create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), [x, *parameters.values()], allow_unused=True)
    names = ["x", *(f"sum.{name}" for name in parameters)]
    found = {"y": y}
    found |= {f"first/{name}": value for name, value in zip(names, first, strict=True)}
    found |= {f"second/{name}": value for name, value in zip(names, second, strict=True) if value is not None}
    return {name: value.detach() for name, value in found.items()}


def of_process() -> dict[str, Tensor]:
    results, (x, dy), rank = {}, whole_batch(), dist.get_rank()
    for split, sizes in SPLITS.items():
        mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        everyone, place = gathered_over_processes(x[mine])
        assert torch.equal(everyone, x)
        assert place == mine
        for form in FORMS:
            found = measure(form, x[mine], dy[mine])
            results |= {f"{split}/{form}/{name}": value for name, value in found.items()}
        alone = build("paper").eval()(x[mine])
        results[f"{split}/evaluation"] = alone
    return results


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Tensor]]:
    return run_ranks(of_process, 2)


@pytest.mark.distributed
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("split", SPLITS)
def test_two_processes_compare_all_samples(ranks: list[dict[str, Tensor]], split: str, form: str) -> None:
    expected, worst = measure(form, *whole_batch()), 0.0
    assert {"first/x", "second/x", "first/sum.theta", "second/sum.theta"} <= set(expected)
    for name, value in expected.items():
        parts = [rank[f"{split}/{form}/{name}"] for rank in ranks]
        together = parts[0] + parts[1] if "sum." in name else torch.cat(parts)
        worst = max(worst, float((together - value).abs().max() / value.abs().max()))
    print(f"{split}, {form}: largest relative difference {worst:.1e}")
    assert worst < TOLERANCE


@pytest.mark.distributed
def test_evaluation_compares_the_samples_at_hand(ranks: list[dict[str, Tensor]]) -> None:
    x, _ = whole_batch()
    for rank, mine in enumerate((slice(0, 5), slice(5, 6))):
        torch.testing.assert_close(ranks[rank]["uneven/evaluation"], build("paper")(x[mine]))
