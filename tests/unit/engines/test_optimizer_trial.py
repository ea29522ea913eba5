"""Optimisers of a recipe's author: what a resume would lose, or sharding would change, is named when one is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

from framework import SGD, Adam, AdamW, RMSProp
from framework.engines.choose import EngineError, check
from framework.engines.optimizer_trial import Trial, try_out
from tests.helpers.play import small_recipe


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """An optimiser of torch, with moments as its author names them."""

    cls: type[torch.optim.Optimizer]
    moments: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    moved: tuple[str, ...] = ()
    lr: float = 0.1

    def hyperparameters_at(self, images_seen: int) -> Mapping[str, Any]:
        return dict.fromkeys(self.moved, 0.5)

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        return self.cls(parameters, lr=self.lr, **dict(self.options))  # type: ignore[call-arg]


class Whole(torch.optim.SGD):
    """Steps of the length 1: every number depends on all of its tensor."""

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            parameter -= parameter.grad / parameter.grad.norm()


class Averaging(torch.optim.SGD):
    """Keeps an average, under a name that checkpoints have for something else."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        super().step()
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["ema"] = torch.zeros_like(parameter)


@pytest.mark.parametrize(
    ("spec", "counts_steps"),
    [
        (Adam(lr=1e-3), True),
        (AdamW(lr=1e-3), True),
        (RMSProp(lr=1e-3), True),
        (RMSProp(lr=1e-3, momentum=0.9), True),
        (SGD(lr=1e-3), False),
        (SGD(lr=1e-3, momentum=0.9, nesterov=True), False),
        (Theirs(cls=torch.optim.Adamax, moments=("exp_avg", "exp_inf")), True),
    ],
    ids=repr,
)
def test_what_may_be_sharded_and_resumed(spec: Any, counts_steps: bool) -> None:
    assert try_out(spec) == Trial(counts_steps=counts_steps, elementwise=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Theirs(cls=torch.optim.Adam, moments=("exp_avg",)), "Theirs keeps exp_avg_sq, which its `moments` do not"),
        (Theirs(cls=torch.optim.NAdam, moments=("exp_avg", "exp_avg_sq")), "Theirs keeps mu_product, which"),
        (Theirs(cls=torch.optim.SGD, moments=("exp_avg",)), r"moments=\('exp_avg',\) must name .* not exp_avg"),
        (Theirs(cls=Averaging, moments=("ema",)), r"moments=\('ema',\) must name .* not ema"),
        (
            Theirs(cls=torch.optim.Adagrad, moments=("sum",), options=(("initial_accumulator_value", 0.1),)),
            "moments must begin at 0",
        ),
        (
            Theirs(cls=torch.optim.SGD, moments=("momentum_buffer",), options=(("momentum", 0.9), ("dampening", 0.5))),
            "moments must begin at 0",
        ),
        (Theirs(cls=torch.optim.SGD, moments=(), moved=("betas",)), "hyperparameters_at sets betas, which torch's"),
        (Theirs(cls=torch.optim.SGD, moments=(), moved=("lr",)), "sets lr, .* the player's schedule sets lr"),
    ],
    ids=str,
)
def test_what_a_run_would_lose_is_named(spec: Any, message: str) -> None:
    player = replace(small_recipe().generator, optimizer=spec)
    with pytest.raises(EngineError, match=f"^generator.optimizer: .*{message}"):
        check("ddp", player, side="generator", device=torch.device("cpu"), precision="fp32", world=1)


def test_an_optimiser_that_needs_whole_tensors_is_not_sharded() -> None:
    player = replace(small_recipe().generator, optimizer=Theirs(cls=Whole, moments=()))
    options: Any = {"side": "generator", "device": torch.device("cpu"), "precision": "fp32", "world": 2}
    check("ddp", player, **options)
    for engine in ("zero1", "zero2", "zero3", "fsdp2"):
        with pytest.raises(EngineError, match=f"{engine} cuts tensors, and a step of Theirs .*; use --engine ddp"):
            check(engine, player, **options)  # type: ignore[arg-type]
