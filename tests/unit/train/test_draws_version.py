"""A run goes on with the random numbers that it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from framework.runtime.seeding import NEW_RUNS, VERSIONS
from framework.train.folder import ResumeError, draws_version
from tests.fuzz.records import RECORD
from tests.helpers.play import small_recipe, start, steps
from tests.unit.train.test_record_check import written


def without_version() -> dict[str, Any]:
    return {name: value for name, value in RECORD.items() if name != "draws_version"}


def test_the_version_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    assert draws_version(None) == NEW_RUNS == VERSIONS[-1]
    for version in VERSIONS:
        assert draws_version(written(tmp_path / str(version), RECORD | {"draws_version": version})) == version
    assert draws_version(written(tmp_path / "older", without_version())) == 1


def test_a_version_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, RECORD | {"draws_version": 3})
    with pytest.raises(ResumeError) as refused:
        draws_version(checkpoint)
    assert str(refused.value) == (
        f"{checkpoint.path} was trained with random numbers of version 3, which this program does not know (its newest "
        "is 2); continue it with the program that wrote it, or with a newer one"
    )


def test_a_game_draws_by_its_version_and_a_new_one_by_the_newest() -> None:
    recipe = small_recipe()
    played = {version: steps(start(recipe, draws_version=version), count=1)["scores/loss/D"] for version in VERSIONS}
    assert len(torch.stack(list(played.values())).unique()) == len(VERSIONS)
    assert torch.equal(steps(start(recipe), count=1)["scores/loss/D"], played[NEW_RUNS])
