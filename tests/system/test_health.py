"""Non-finite losses and gradients on one process of two, for real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.helpers.play import Batch, smooth_recipe, start, synthetic
from tests.helpers.spawn import run_ranks

pytestmark = pytest.mark.distributed


def poisoned(batches: Iterator[Batch], *, at: int, rank: int) -> Iterator[Batch]:
    """NaN pixels in one batch of one process."""
    for index, batch in enumerate(batches):
        if index == at and torch.distributed.get_rank() == rank:
            batch.images = torch.full_like(batch.images, float("nan"), dtype=torch.float32)
        yield batch


def play(kind: str) -> dict[str, Tensor]:
    played = start(smooth_recipe(), dtype=torch.float64)
    batches = poisoned(synthetic(played.recipe, played.partition), at=2, rank=1)
    verdicts, before = [], {}
    for step in range(5):
        if step == 2:
            before = {n: p.detach().clone() for n, p in played.game.players["discriminator"].network.named_parameters()}
        _, finite = played.game.step(batches, images_seen=step * 12)
        verdicts.append(finite)
        if step == 2:
            after = dict(played.game.players["discriminator"].network.named_parameters())
            unchanged = all(torch.equal(before[n], after[n]) for n in before)
    weights = torch.cat([p.detach().flatten() for p in played.game.players["discriminator"].network.parameters()])
    steps = played.game.players["discriminator"].steps_taken()
    return {"verdicts": torch.tensor(verdicts), "unchanged": torch.tensor(unchanged), "weights": weights,
            "steps": torch.tensor(steps)}  # fmt: skip


def test_nan_on_one_process_is_skipped_by_both_and_training_goes_on() -> None:
    first, second = run_ranks(play, 2, "nan")
    for result in (first, second):
        assert result["verdicts"].tolist() == [True, True, False, True, True]
        assert bool(result["unchanged"])
        assert int(result["steps"]) == 4
    assert torch.equal(first["weights"], second["weights"])
    assert bool(first["weights"].isfinite().all())
