"""Recipes check the types of their fields: whatever is given in a field's place, the error names class and field."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import ClassVar

import pytest
from torch import nn

from framework import R1, Adam, Alternating, Averaging, Cosine, Growth, Hinge, Linear, Network, Phase, Player, Ramp
from framework.networks import latent_size, sagan
from framework.recipe import override
from framework.recipe.description import describe
from framework.utils.errors import FrameworkError, RecipeError
from tests.helpers.play import small_recipe

RECIPE = small_recipe()
GAME = RECIPE.game
HELD = (
    RECIPE,
    RECIPE.data,
    RECIPE.generator,
    RECIPE.generator.optimizer,
    RECIPE.generator.schedule,
    RECIPE.averaging,
    GAME,
    Growth(phases=(Phase(resolution=32, stable_images=1),)),
    Phase(resolution=32, stable_images=1),
    Ramp(start=0.0, end=1.0, images=10),
    Cosine(end_images=10),
)


class Forgetful:
    """An optimiser without `hyperparameters_at`."""

    lr = 1e-3
    moments: ClassVar = ("exp_avg", "exp_avg_sq")

    def build(self, parameters: object) -> None: ...


@pytest.mark.parametrize(
    ("owner", "name"),
    [(value, field.name) for value in HELD for field in dataclasses.fields(value)],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_an_object_in_any_fields_place_names_class_and_field(owner: object, name: str) -> None:
    with pytest.raises(RecipeError, match=rf"^{type(owner).__name__}: {name}=<object object at .*> (must be|is no) "):
        replace(owner, **{name: object()})  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Alternating(loss=Hinge), r"Alternating: loss=.* is a class: give an instance of it, Hinge\(\.\.\.\)"),
        (
            lambda: Alternating(loss=object()),
            "AdversarialLoss: it lacks `needs_real_logits`, `discriminator`, `generator`",
        ),
        (lambda: replace(RECIPE.generator, optimizer=Forgetful()), "Optimizer: it lacks `hyperparameters_at`"),
        (lambda: replace(RECIPE.generator, network=sagan.Generator), "Player: network=.* must be of type Network"),
        (
            lambda: replace(RECIPE.generator, frozen="blocks.0"),
            "frozen='blocks.0' must be a tuple, each entry of it a string",
        ),
        (lambda: replace(RECIPE.generator, engine="ddpp"), "engine='ddpp' must be one of 'ddp', 'zero1', .*, or None"),
        (lambda: Adam(lr="2e-4"), "Adam: lr='2e-4' must be a number"),
        (
            lambda: Adam(lr=1.0, betas=(0.0, 0.9, 0.9)),
            r"betas=\(0.0, 0.9, 0.9\) must be a tuple of \(a number, a number\)",
        ),
        (
            lambda: replace(GAME, discriminator_terms=R1(weight=1.0)),
            "discriminator_terms=R1.* must be a tuple, each entry",
        ),
        (
            lambda: replace(GAME, discriminator_terms=[R1(weight=1.0)]),
            "discriminator_terms=.* is a list: write a tuple",
        ),
        (lambda: replace(GAME, discriminator_terms=(R1,)), "discriminator_terms=.* each entry of it of type Term"),
        (lambda: replace(RECIPE, batch_size=16.0), "Recipe: batch_size=16.0 must be a whole number"),
        (lambda: replace(RECIPE, seed=True), "Recipe: seed=True must be a whole number"),
        (lambda: Network(sagan.Generator(resolution=32)), "Network takes the class of .* not an instance of Generator"),
        (lambda: Network("sagan.Generator"), "Network takes the class of a torch.nn.Module .* not 'sagan.Generator'"),
    ],
)
def test_usual_slips_are_told_what_to_write(make, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_numbers_may_be_whole_and_protocols_anybodys() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine:
        needs_real_logits: ClassVar[bool] = False

        def discriminator(self, real_logits: object, fake_logits: object) -> None: ...

        def generator(self, fake_logits: object, real_logits: object = None) -> None: ...

    assert Alternating(loss=Mine()).loss == Mine()
    assert Averaging(half_life_images=500).half_life_images == 500
    assert (
        Player(network=RECIPE.generator.network, optimizer=Adam(lr=1), schedule=Linear(end_images=5)).clip_norm is None
    )


def test_what_a_description_cannot_hold_is_named_by_its_path() -> None:
    class Plain:
        """A loss, but no dataclass."""

        needs_real_logits = False
        discriminator = generator = None

    with pytest.raises(
        FrameworkError, match=r"^game\.loss: a recipe may hold .*, not Plain; if Plain is yours, make it a"
    ):
        describe(replace(RECIPE, game=replace(GAME, loss=Plain())))
    network = Network(sagan.Generator, width=4, z_dim=8, attention_at=16, init=float("nan"))
    with pytest.raises(FrameworkError, match=r"^generator\.network\.init=nan must be a finite number"):
        describe(replace(RECIPE, generator=replace(RECIPE.generator, network=network)))


@pytest.mark.parametrize("path", ["game.loss", "discriminator.schedule"])
def test_setting_a_part_without_fields_says_so(path: str) -> None:
    with pytest.raises(
        FrameworkError, match=rf"--set {path}: that is a (Hinge|Constant), which has no fields to set; "
    ):
        override.apply(RECIPE, [f"{path}=Hinge"])


@pytest.mark.parametrize(
    ("told", "shown"), [(None, "no attribute z_dim"), ("8", "z_dim='8'"), (0, "z_dim=0"), (True, "True")]
)
def test_a_generator_that_does_not_tell_its_latent_size_is_named(told: object, shown: str) -> None:
    network = nn.Identity()
    if told is not None:
        network.z_dim = told  # type: ignore[assignment]
    with pytest.raises(FrameworkError, match=rf"Identity has .*{shown}.*: set self\.z_dim in its constructor"):
        latent_size(network)
