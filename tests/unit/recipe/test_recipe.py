"""What a recipe accepts and refuses, how it is described, and how `--set` reaches into it."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import pytest
import torch
from torch import nn

from framework import Adam, Alternating, Averaging, Constant, Cosine, Linear, Network, Shards
from framework.networks import sagan
from framework.recipe import RecipeError, override
from framework.recipe.checks import ADDED_LATER
from framework.recipe.description import describe, differences, network_from, science_hash
from framework.recipe.override import OverrideError
from framework.utils.errors import FrameworkError
from tests.helpers.play import small_recipe

RECIPE = small_recipe()


def test_network_options_are_checked_against_the_constructor() -> None:
    with pytest.raises(RecipeError, match=r"Generator has no option 'widht'; nearest: width"):
        Network(sagan.Generator, widht=3)


def test_a_network_takes_resolution_channels_and_classes_from_the_data() -> None:
    assert RECIPE.generator.network.resolved(RECIPE.data.derived())["classes"] == 5
    with pytest.raises(RecipeError, match=r"generator\.network: .* classes=7 contradicts the data's classes=5"):
        small_recipe(
            generator=dataclasses.replace(RECIPE.generator, network=Network(sagan.Generator, classes=7, z_dim=8))
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(lr=0.0), "lr=0.0 must be positive"),
        (lambda: Adam(lr=1.0, betas=(0.0, 1.0)), r"betas=\(0.0, 1.0\)"),
        (lambda: Shards(location="x", resolution=32, channels=4), "channels=4"),
        (lambda: Averaging(half_life_images=0), "half_life_images=0"),
        (lambda: Linear(end_images=0), "must lie before"),
        (lambda: small_recipe(batch_size=0), "batch_size=0"),
    ],
)
def test_what_cannot_work_is_refused_when_written(make, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        make()


def test_schedules() -> None:
    assert Constant().at(10**9) == 1.0
    linear = Linear(start_images=100, end_images=300, end=0.5)
    assert [linear.at(i) for i in (0, 100, 200, 300, 10**6)] == [1.0, 1.0, 0.75, 0.5, 0.5]
    cosine = Cosine(end_images=100, end=0.2)
    assert cosine.at(0) == pytest.approx(1.0)
    assert cosine.at(50) == pytest.approx(0.6)
    assert cosine.at(10**6) == pytest.approx(0.2)


def test_averaging_by_half_life() -> None:
    averaging = Averaging(half_life_images=1000, ramp_up=None)
    assert averaging.kept_share(images_seen=5000, step_images=1000) == pytest.approx(0.5)
    ramp = Averaging(half_life_images=1000, ramp_up=0.1)
    assert ramp.kept_share(images_seen=1000, step_images=100) == pytest.approx(0.5)  # half-life 100 so early
    assert Averaging(start_images=500).kept_share(images_seen=500, step_images=10) == 0.0


def test_the_description_is_json_with_every_default_and_survives_a_round_trip() -> None:
    text = json.dumps(describe(RECIPE))
    described = json.loads(text)
    assert described["generator"]["network"]["class"] == "framework.networks.sagan.Generator"
    assert described["generator"]["network"]["options"]["spectral"] is True
    assert described["game"]["discriminator_terms"][0] == {"type": "R1", "weight": 1.0, "every": 2}
    network = network_from(described["generator"]["network"])
    assert sum(p.numel() for p in network.parameters()) == sum(
        p.numel() for p in RECIPE.build_network("generator").parameters()
    )


def test_the_science_hash_ignores_operations_and_sees_everything_else() -> None:
    same = [small_recipe(images=5), override.apply(RECIPE, ["data.location=/elsewhere", "generator.engine=zero2"])]
    assert {science_hash(r) for r in same} == {science_hash(RECIPE)}
    for change in ("seed=1", "batch_size=24", "generator.optimizer.lr=3e-3", "game.discriminator_terms.0.weight=2"):
        assert science_hash(override.apply(RECIPE, [change])) != science_hash(RECIPE), change


def test_differences_name_paths() -> None:
    changed = override.apply(RECIPE, ["generator.optimizer.lr=3e-3"])
    assert differences(describe(RECIPE), describe(changed)) == ["generator.optimizer.lr: 0.001 -> 0.003"]


def test_a_description_never_imports_foreign_code() -> None:
    for name in ("os.system", "framework.networks.sagan.torch", "framework.networks.missing.Net"):
        with pytest.raises(FrameworkError):
            network_from({"class": name, "options": {}})
    handed = network_from({"class": "mine.Net", "options": {}}, classes={"mine.Net": nn.Identity})
    assert isinstance(handed, nn.Identity)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("generator.optimizer.lr=2e-4", 2e-4),
        ("generator.optimizer.betas=0.5,0.99", (0.5, 0.99)),
        ("generator.clip_norm=none", None),
        ("generator.clip_norm=2", 2.0),
        ("generator.engine=zero3", "zero3"),
        ("data.flip=true", True),
        ("images=1.5M", 1_500_000),
        ("game.fake_labels=real", "real"),
        ("game.discriminator_terms.0.every=16", 16),
        ("averaging.half_life_images=500", 500.0),
    ],
)
def test_set_is_typed_from_the_field(assignment: str, value: object) -> None:
    changed = override.apply(RECIPE, [assignment])
    found: object = changed
    for name in assignment.partition("=")[0].split("."):
        found = found[int(name)] if isinstance(found, tuple) else getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_set_reaches_network_options() -> None:
    changed = override.apply(RECIPE, ["generator.network.width=6", "generator.network.attention_at=none"])
    assert changed.generator.network.options == {"width": 6, "z_dim": 8, "attention_at": None}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("generator.optimiser.lr=1", r"Player has no field 'optimiser'; nearest: generator\.optimizer\.lr"),
        ("generator.network.widht=1", r"nearest: generator\.network\.width"),
        ("generator.optimizer.lr=fast", r"expects float, got 'fast'"),
        ("generator.network.width=1.5", r"expects int, got '1.5'"),
        ("generator.engine=ddpp", r"got 'ddpp'"),
        ("generator.optimizer=Adam", r"set one of its fields: generator\.optimizer\.lr"),
        ("game.discriminator_terms.1.weight=1", "has no field '1'"),
        ("generator.optimizer.betas=0.5", "got '0.5'"),
        ("nonsense", "write it as path=value"),
        ("seed.x=1", "has no field 'x'"),
    ],
)
def test_a_wrong_set_names_the_nearest_field(assignment: str, message: str) -> None:
    with pytest.raises(OverrideError, match=message):
        override.apply(RECIPE, [assignment])


def test_every_settable_path_accepts_its_own_value() -> None:
    for path, value in override.settable(RECIPE):
        from_data = ".network." in path and path.rpartition(".")[2] in RECIPE.data.derived()
        if value is None or isinstance(value, tuple) or from_data:
            continue
        assert science_hash(override.apply(RECIPE, [f"{path}={value}"])) == science_hash(RECIPE), path


def test_building_on_the_meta_device_costs_nothing() -> None:
    with torch.device("meta"):
        assert next(RECIPE.build_network("generator").parameters()).is_meta


def test_a_field_that_was_added_later_enters_the_hash_only_where_it_is_used() -> None:
    added = ("rounds", int, dataclasses.field(default=1, metadata=ADDED_LATER))
    game = dataclasses.make_dataclass("Alternating", [added], bases=(Alternating,), frozen=True, kw_only=True)

    def hashed(**options: int) -> str:
        return science_hash(dataclasses.replace(RECIPE, game=game(loss=RECIPE.game.loss, **options)))

    before = science_hash(dataclasses.replace(RECIPE, game=Alternating(loss=RECIPE.game.loss)))
    assert hashed() == hashed(rounds=1) == before
    assert hashed(rounds=2) != before


def test_an_option_of_a_network_that_was_added_later_enters_the_hash_only_where_it_is_used() -> None:
    class Before(nn.Module):
        def __init__(self, *, width: int = 3) -> None:
            super().__init__()
            self.layer = nn.Linear(width, 1)

    class After(Before):
        def __init__(
            self, *, width: int = 3, rounds: Annotated[int, ADDED_LATER] = 1, classes: Annotated[int, ADDED_LATER] = 0
        ) -> None:
            super().__init__(width=width)

    After.__qualname__ = Before.__qualname__

    def hashed(cls: type[nn.Module], **options: int) -> str:
        player = dataclasses.replace(RECIPE.generator, network=Network(cls, **options))
        return science_hash(dataclasses.replace(RECIPE, generator=player))

    assert RECIPE.data.classes > 0, "the option `classes` holds what the data decides, not its default"
    assert hashed(After) == hashed(After, rounds=1) == hashed(Before)
    assert hashed(After, rounds=2) != hashed(Before)
    assert hashed(After, width=4) == hashed(Before, width=4) != hashed(Before)
