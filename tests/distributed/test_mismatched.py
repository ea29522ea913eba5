"""Terms that need conditions of other samples, and samples generated again: alike on 1, 2 and 3 processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from framework import Alternating, Hinge, Term, TermInputs
from framework.games.microbatch import BatchPartition
from framework.games.mismatched import with_mismatched
from framework.utils.errors import FrameworkError
from tests.helpers.play import largest_difference, outputs, smooth_recipe, start, steps
from tests.helpers.spawn import run_ranks

TOLERANCE = 1e-10
"""The rounding of float64 sums in another order."""


@dataclass(frozen=True, kw_only=True)
class WrongPairs(Term):
    """The logits of real samples with the classes of others."""

    weight: float = 0.5
    needs_mismatched: ClassVar[tuple[str, ...]] = ("label",)
    players: ClassVar[tuple[str, ...]] = ("discriminator",)

    def value(self, inputs: TermInputs) -> Tensor:
        return inputs.discriminate(inputs.tensor("real"), inputs.tensor("label_mismatched")).relu().mean()


@dataclass(frozen=True, kw_only=True)
class Variety(Term):
    """How alike two samples of one condition are."""

    weight: float = 0.5
    players: ClassVar[tuple[str, ...]] = ("generator",)

    def value(self, inputs: TermInputs) -> Tensor:
        first, second = inputs.generated_again(0), inputs.generated_again(1)
        assert not torch.equal(first, second)
        return (-(first - second).square().flatten(1).mean(1)).exp().mean()


def played(world: int) -> dict[str, Tensor]:
    rules = Alternating(loss=Hinge(), discriminator_terms=(WrongPairs(),), generator_terms=(Variety(),))
    game = start(smooth_recipe(game=rules), dtype=torch.float64)
    found = steps(game, count=3) | outputs(game)
    rank = dist.get_rank() if dist.is_initialized() else 0
    slices = BatchPartition(batch_size=7, micro_batches=2, rank=rank, world=world).slices()
    rows = torch.cat([torch.arange(part.rows.start, part.rows.stop) for part in slices])
    mixed = with_mismatched({"label": 10 * rows}, ["label"], slices=slices, batch_size=7)
    return found | {"rows": rows, "wrong": mixed["label_mismatched"]}


def test_partners_are_the_next_samples_of_the_global_batch_on_any_number_of_processes() -> None:
    (alone,) = run_ranks(played, 1, 1)
    assert {"scores/term/WrongPairs", "scores/term/Variety"} <= alone.keys()
    for world in (2, 3):
        results = run_ranks(played, world, world)
        rows, wrong = (torch.cat([one[name] for one in results]) for name in ("rows", "wrong"))
        assert torch.equal(rows.sort().values, torch.arange(7))
        assert torch.equal(wrong, 10 * ((rows + 1) % 7))
        for part in ("scores/", "outputs/"):
            assert largest_difference(alone, results[0], part) < TOLERANCE


def test_a_field_that_the_data_does_not_have_is_named() -> None:
    with pytest.raises(FrameworkError, match="the field 'caption' of other samples; the data has image"):
        with_mismatched(
            {"image": torch.zeros(2, 1)}, ["caption"], slices=BatchPartition(batch_size=2).slices(), batch_size=2
        )
