"""Gradient buckets: averaged over processes, and on their way while the backward still runs."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.engines.reducer import GradientReducer
from tests.helpers.spawn import run_ranks

pytestmark = pytest.mark.distributed


class Watched(torch.autograd.Function):
    """Identity that notes how many buckets had left when the backward came here."""

    @staticmethod
    def forward(ctx, x: Tensor, reducer: GradientReducer, notes: list[int]) -> Tensor:
        ctx.reducer, ctx.notes = reducer, notes
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        ctx.notes.append(ctx.reducer._next)
        return grad, None, None


def worker(kind: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
    unused = nn.Linear(8, 8)
    reducer = GradientReducer([*layers.parameters(), *unused.parameters()], bucket_bytes=300)
    notes: list[int] = []
    x = torch.full((2, 8), 1.0 + dist.get_rank())
    for turn in range(2):  # the second turn shows that nothing is left of the first
        if turn:
            reducer.zero()
        y = x
        for layer in layers:
            y = Watched.apply(layer(y), reducer, notes)
        first, last = y.square().mean(), y.mean()
        reducer.note(first)
        first.backward(retain_graph=True)
        notes.clear()
        reducer.arm(last)
        last.backward()
        loss = reducer.finish()
    return {
        "gradient": torch.cat([p.grad.flatten() for p in layers.parameters()]),
        "unused": torch.cat([p.grad.flatten() for p in unused.parameters()]),
        "launched": torch.tensor(notes),
        "loss": loss,
        "local loss": (first + last).detach(),
    }


def test_buckets_average_and_leave_during_the_backward() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
    for rank in range(2):
        y = torch.full((2, 8), 1.0 + rank)
        for layer in layers:
            y = layer(y)
        ((y.square().mean() + y.mean()) / 2).backward()
    expected = torch.cat([p.grad.flatten() for p in layers.parameters()])
    results = run_ranks(worker, 2, "buckets")
    for result in results:
        torch.testing.assert_close(result["gradient"], expected)
        assert result["unused"].eq(0).all()
        mean_loss = sum(r["local loss"] for r in results) / 2
        torch.testing.assert_close(result["loss"], mean_loss)
    # The unused layer comes last in the forward pass, so its bucket is first in line and holds the others up ...
    assert results[0]["launched"].tolist() == [0, 0, 0, 0]


def overlapping(kind: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
    reducer = GradientReducer(layers.parameters(), bucket_bytes=300)
    notes: list[int] = []
    y = torch.ones(2, 8)
    for layer in layers:
        y = Watched.apply(layer(y), reducer, notes)
    reducer.arm(y.mean())
    y.mean().backward()
    reducer.finish()
    return {"launched": torch.tensor(notes)}


def test_each_layer_has_left_before_the_backward_reaches_the_next_but_one() -> None:
    # ... and without it, each layer's bucket leaves one layer later, while earlier layers still compute.
    launched = run_ranks(overlapping, 2, "overlap")[0]["launched"].tolist()
    print(f"buckets under way when the backward enters layers 4, 3, 2, 1: {launched}")
    assert launched == [0, 0, 1, 2]
