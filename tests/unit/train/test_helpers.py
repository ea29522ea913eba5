"""Helpers: networks that are not trained, whose weights are named by their hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from framework import Alternating, FrameworkError, Helper, Hinge, Network, Recipe, RecipeError, Term, TermInputs
from framework.games.runner import GameRunner
from framework.recipe.description import science_hash
from framework.train.helpers import load_helpers
from tests.helpers.play import smooth_recipe, start, steps


class Features(nn.Module):
    def __init__(self, *, width: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@dataclass(frozen=True, kw_only=True)
class Perceptual(Term):
    """A distance of features of a helper."""

    weight: float = 1.0
    players: ClassVar[tuple[str, ...]] = ("generator",)

    def value(self, inputs: TermInputs) -> Tensor:
        features = inputs.helpers["features"]
        return (features(inputs.tensor("fake")) - features(inputs.tensor("real"))).abs().mean()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "features.safetensors"
    save_file(Features().state_dict(), path)
    helper = Helper(network=Network(Features), weights=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    game = Alternating(loss=Hinge(), generator_terms=(Perceptual(),))
    return smooth_recipe(game=game, helpers={"features": helper})


def changed(recipe: Recipe, **fields: object) -> Recipe:
    return replace(recipe, helpers={"features": replace(recipe.helpers["features"], **fields)})


def test_a_helper_is_used_by_terms_not_trained_and_not_in_checkpoints(recipe: Recipe) -> None:
    helpers = load_helpers(recipe, device=torch.device("cpu"))
    before = {name: value.clone() for name, value in helpers["features"].state_dict().items()}
    played = start(recipe)
    game = played.game
    played.game = GameRunner(
        recipe.game, players=game.players, averages=game.averages, recipe=recipe, partition=played.partition,
        memory=game.memory, helpers=helpers,
    )  # fmt: skip
    found = steps(played, count=2)["scores/term/Perceptual"]
    assert (found > 0).all()
    after = helpers["features"].state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert not any(parameter.requires_grad for parameter in helpers["features"].parameters())
    assert all(parameter.grad is None for parameter in helpers["features"].parameters())
    owners = {piece.key.split("/")[0] for piece in played.state.slices(own=True, buffers=True)}
    assert owners == {"generator", "discriminator"}


def test_other_weights_than_the_recipe_names_are_refused_with_both_hashes(recipe: Recipe) -> None:
    other = "0" * 64
    with pytest.raises(FrameworkError, match=rf"helpers\.features: .* has the SHA-256 [0-9a-f]+, .* names {other}"):
        load_helpers(changed(recipe, sha256=other), device=torch.device("cpu"))


def test_weights_that_are_not_there_or_do_not_fit_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match=r"helpers\.features: there are no weights at .*absent\.safetensors"):
        load_helpers(changed(recipe, weights=str(tmp_path / "absent.safetensors")), device=torch.device("cpu"))
    wider = changed(recipe, network=Network(Features, width=4))
    with pytest.raises(FrameworkError, match=r"does not fit Features: .*size mismatch"):
        load_helpers(wider, device=torch.device("cpu"))


def test_a_hash_decides_the_science_and_the_place_of_the_file_does_not(recipe: Recipe) -> None:
    assert science_hash(changed(recipe, weights="elsewhere.safetensors")) == science_hash(recipe)
    assert science_hash(changed(recipe, sha256="0" * 64)) != science_hash(recipe)
    with pytest.raises(RecipeError, match="64 digits"):
        changed(recipe, sha256="abc")
