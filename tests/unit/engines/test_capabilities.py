"""The capability table is complete, and the pinned DeepSpeed is the one whose inside is known."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

import framework.objectives
from framework.engines.capabilities import ENGINES, NORMALISATIONS, PENALTIES, PRECISIONS, REFUSALS, Case, refusal
from framework.engines.choose import EngineError, check
from framework.engines.zero_setup import PRIVATE, VERSIONS, assert_known_inside, configuration
from framework.objectives.penalties import Penalty
from framework.recipe import EngineName
from tests.helpers.play import small_recipe
from tests.helpers.tiny import TERMS, Normalised

ROOT = Path(__file__).parents[3]


def penalties() -> set[str]:
    found = set()
    for module in pkgutil.iter_modules(framework.objectives.__path__):
        for thing in vars(importlib.import_module(f"framework.objectives.{module.name}")).values():
            if isinstance(thing, type) and issubclass(thing, Penalty) and thing is not Penalty:
                found.add(thing.__name__)
    return found


def test_every_penalty_is_walked() -> None:
    assert penalties() == {name.split()[0] for name in PENALTIES if name != "none"}
    assert tuple(TERMS) == PENALTIES
    for name, make in TERMS.items():
        terms = [*make()[0], *make()[1]]
        assert {type(term).__name__ for term in terms} == ({name.split()[0]} if name != "none" else set())


def test_every_normalisation_of_the_walk_computes_something_of_its_own() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 2, 4, 4), torch.randn(4, 3)
    results = {}
    for kind in NORMALISATIONS:
        torch.manual_seed(1)
        results[kind] = Normalised(2, kind, w_dim=3)(x, w)
    results.pop("minibatch deviation")  # a layer of its own, after the block
    kinds = list(results)
    for index, a in enumerate(kinds):
        for b in kinds[index + 1 :]:
            assert not torch.allclose(results[a], results[b]), (a, b)


def test_the_table_knows_every_engine_and_refuses_with_an_alternative() -> None:
    assert get_args(EngineName) == ENGINES
    for entry in REFUSALS:
        assert set(entry.engines) <= set(ENGINES)
        assert re.search(r"use |give ", entry.sentence)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_else_is_refused(engine: Any, precision: Any) -> None:
    assert refusal(Case(engine=engine, precision=precision, world=2)) is None


def test_a_parameter_without_axes_is_refused_by_fsdp2_alone() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strength, self.weight = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(3))

    options: dict[str, Any] = {"side": "generator", "device": torch.device("cpu"), "precision": "fp32", "world": 2}
    player = small_recipe().generator
    with pytest.raises(EngineError, match=r"generator: fsdp2 cuts .* strength has none; give it one element"):
        check("fsdp2", player, network=Scaled(), **options)
    check("zero3", player, network=Scaled(), **options)
    check("fsdp2", player, network=nn.Linear(2, 2), **options)


def test_frozen_parameters_are_named() -> None:
    case = Case(engine="zero3", precision="fp32", world=2, frozen=("a", "b"))
    assert "(frozen=a, b); use --engine zero2 or ddp" in str(refusal(case))
    assert refusal(replace(case, engine="zero2")) is None


def test_the_pinned_deepspeed_is_the_one_whose_inside_is_known() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (line,) = [entry for entry in dependencies if entry.startswith("deepspeed")]
    assert line.removeprefix("deepspeed").partition(";")[0].strip() == VERSIONS
    (constraint,) = [
        entry for entry in (ROOT / "constraints.txt").read_text().splitlines() if entry.startswith("deepspeed==")
    ]
    assert f">={constraint.removeprefix('deepspeed==')}," in VERSIONS


@pytest.mark.parametrize("stage", [1, 3])
def test_a_deepspeed_that_has_changed_inside_is_refused(stage: int) -> None:
    class Changed:
        """Has every private name but one."""

    names = [*PRIVATE["any stage"], *PRIVATE["stage 3" if stage == 3 else "stages 1 and 2"]]
    for name in names[1:]:
        setattr(Changed, name, None)
    with pytest.raises(EngineError, match=f"player: .* changed inside .{names[0]} are gone"):
        assert_known_inside(Changed(), name="player", stage=stage)
    setattr(Changed, names[0], None)
    assert_known_inside(Changed(), name="player", stage=stage)


def test_only_stage_3_is_told_about_gathering() -> None:
    for stage in (1, 2, 3):
        options = configuration(stage)["zero_optimization"]
        assert any(name.startswith("stage3") for name in options) == (stage == 3)
