"""The data of a recipe: its short form, its fields, several sources, and what networks take from them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.recipes import load_recipe
from framework.data.computed import Computed, RingOfGaussians
from framework.data.derived import Holes, LowResolution
from framework.data.fields import Field, Image, Label, LabelMap, Mask
from framework.data.points import Points
from framework.recipe import RecipeError, Shards, Sources, override
from framework.recipe.description import describe, science_hash
from framework.utils.errors import FrameworkError
from tests.helpers.play import small_recipe

RECIPE = small_recipe()
HASHES = {
    "biggan_imagenet128": "1d9189a832150eb0e8df07872d15053624b1e332ea012ac34156c6dfd7a30ea0",
    "progan_celebahq1024": "aa5233d2d2a6de28abb3bd622c2da9f94a647430dfdc491d58485f46a5944270",
    "progan_fashion": "2882511197ffb74b18dfccfe8ffd3286c3621886167eb3f62489b3250642c6dc",
    "r3gan_cifar10": "f4a9cd70277fff5a521faa62056406703518df311c8b3d7e51a2e6faadc95d36",
    "sagan_cifar10": "086442cd5579479fffae4720d9af29afa41e041f0c2b7cdfb7f4ede51dc479bc",
    "sagan_fashion": "55de864186278d6d5631f5a2a3a68c7833da2c55a0c5a42e2ebb1f709125a22a",
    "sagan_imagenet128": "8640053ab11d96d90c9e3fadaeab42d2a85a86a85f70da8a2277b244bceb4c0a",
    "sagan_imagenet128_biggan": "433e5524d1800451103448cfc5eb4fd0943644ad751679374adf409608e01f64",
    "sngan_cifar10": "2d76e9f4d58b32f07848bef300515d5a7a1dc892476d884d4901074c925eb2d2",
    "stylegan1_ffhq1024": "61953110e9bc7a35b8dd0f837875f5ded27b78a458f2524b4c77cbdc441d3192",
    "stylegan2_cifar10": "ba16b2c169b55ec42e755b5547c0fc92b691b460a23d369b62a9fc53a51a17f0",
    "stylegan2_emoji": "af59ba6a6b34d1bdf821d6cc28d4fe8dd791d160a7c9210fdf29958cc7143ba9",
    "stylegan2_ffhq1024": "14e0ec347d8e50c28ad173dcbfa6ea435153e970fefc026d4590a250182db9e1",
    "stylegan2_ffhq256": "de1f3c484e937c196428dcbf19c40c119d36a9f174ab4f6fe77039184cecc5e2",
    "stylegan3_afhqv2": "e4779f7da420af74b801ebdf9a7dd430d119f7e51c858093e4e3dbbf85570202",
    "stylegan3r_afhqv2": "e2506542b278b26231d4d2c7e629635f2337280ade351269ea31c0af75ba6a02",
}
USUAL = (Image("image", RECIPE.data.resolution, RECIPE.data.channels), Label("label", RECIPE.data.classes))


def with_data(data: Any) -> Any:
    return dataclasses.replace(RECIPE, data=data)


@pytest.mark.parametrize("name", sorted(HASHES))
def test_the_science_of_every_shipped_recipe_is_what_it_was(name: str) -> None:
    """Runs that were begun with it resume: a field that is added later carries `ADDED_LATER`."""
    assert science_hash(load_recipe(name)) == HASHES[name]


def test_the_usual_fields_give_networks_what_the_short_form_gives() -> None:
    long = Shards("x", fields=USUAL)
    assert long.derived() == RECIPE.data.derived()
    assert (long.resolution, long.channels, long.classes) == (USUAL[0].size, USUAL[0].channels, USUAL[1].classes)
    recipe = with_data(long)
    assert recipe.segments() == RECIPE.segments()
    assert recipe.generator.network.resolved(long.derived()) == RECIPE.generator.network.resolved(RECIPE.data.derived())
    assert Shards("x", fields=USUAL[:1]).derived() == Shards("x", resolution=USUAL[0].size, channels=1).derived()


@pytest.mark.parametrize(
    ("fields", "derived"),
    [
        (
            (Image("source", 64, 1), Image("target", 64)),
            {"source_resolution": 64, "target_resolution": 64, "source_channels": 1, "target_channels": 3,
             "resolution": 64},
        ),
        (
            (Image("small", 16), Image("large", 64)),
            {"small_resolution": 16, "large_resolution": 64, "small_channels": 3, "large_channels": 3},
        ),
        (
            (Image("image", (32, 48), 4), Mask("mask", (32, 48)), LabelMap("parts", (32, 48), classes=5)),
            {"image_height_pixels": 32, "mask_height_pixels": 32, "parts_height_pixels": 32, "height_pixels": 32,
             "image_width_pixels": 48, "mask_width_pixels": 48, "parts_width_pixels": 48, "width_pixels": 48,
             "channels": 4, "classes": 5},
        ),
        ((Points("places", 2), Label("label", 4)), {"dims": 2, "classes": 4}),
    ],
)  # fmt: skip
def test_options_that_several_fields_give_are_named_after_them(fields: Any, derived: dict[str, int]) -> None:
    data = Shards("x", fields=fields)
    assert {name: value for name, value in data.derived().items() if value} == derived


def test_a_field_enters_the_science_of_a_recipe() -> None:
    before = science_hash(with_data(Shards("x", fields=USUAL)))
    for fields in ((dataclasses.replace(USUAL[0], stored=40), USUAL[1]), (*USUAL, Mask("mask", USUAL[0].size))):
        assert science_hash(with_data(Shards("x", fields=fields))) != before
    assert science_hash(with_data(Shards("y", fields=USUAL))) == before, "where the shards are is no science"
    derived = Shards("x", fields=USUAL, derive=(Holes("holes", of="image"),))
    assert science_hash(with_data(derived)) != before


def test_what_contradicts_the_fields_is_refused() -> None:
    for make, text in (
        (lambda: Shards("x"), "resolution=0 must be at least 1"),
        (lambda: Shards("x", fields=USUAL, resolution=7), "data.resolution=7 contradicts data.fields, which say"),
        (lambda: Shards("x", fields=(USUAL[0], Mask("image", 3))), "two fields have the name 'image'"),
        (lambda: Shards("x", fields=(3,)), "Shards: fields=.* must be a tuple"),  # type: ignore[arg-type]
        (lambda: Shards("x", resolution=8, derive=(Holes("h", of="face"),)), "'h' is derived from 'face'"),
        (lambda: Shards("x", resolution=8, derive=(Holes("image", of="image"),)), "two fields have the name 'image'"),
        (lambda: Sources({}), "names no source"),
        (lambda: Sources({"a": Shards("x", resolution=8)}), "data.a: of several sources each names its fields"),
    ):
        with pytest.raises(RecipeError, match=text):
            make()


def test_a_field_is_set_by_its_path() -> None:
    recipe = with_data(Shards("x", fields=USUAL))
    changed = override.apply(recipe, ["data.fields.0.size=16"]).data
    assert (changed.fields[0].size, changed.resolution) == (16, 16)
    assert override.apply(recipe, ["data.flip=true"]).data.flip
    with pytest.raises(FrameworkError, match=r"data\.resolution=16 contradicts data\.fields"):
        override.apply(recipe, ["data.resolution=16"])


def test_several_sources_are_one_sample() -> None:
    pair = {"a": Shards("left", fields=(USUAL[0],)), "b": Shards("http://me:secret@h/", fields=(Label("label", 5),))}
    recipe = with_data(pair)
    assert isinstance(recipe.data, Sources)
    assert recipe.data.fields == (USUAL[0], Label("label", 5))
    assert recipe.data.derived() == {"resolution": USUAL[0].size, "channels": USUAL[0].channels, "classes": 5}
    described = json.dumps(describe(recipe))
    assert "left" in described
    assert "secret" not in described
    assert science_hash(recipe) == science_hash(with_data({**pair, "a": Shards("elsewhere", fields=(USUAL[0],))}))
    assert override.apply(recipe, ["data.sources.a.flip=true"]).data["a"].flip
    with pytest.raises(FrameworkError, match="has no field 'c'"):
        override.apply(recipe, ["data.sources.c.flip=true"])
    with pytest.raises(RecipeError, match="two fields have the name 'label'"):
        with_data({"a": Shards("x", fields=(Label("label", 2),)), "b": RingOfGaussians(labelled=True)})


def test_a_source_without_files_gives_networks_its_size() -> None:
    ring = RingOfGaussians(modes=8, labelled=True)
    assert ring.derived() == {"dims": 2, "classes": 8}
    assert (ring.resolution, ring.channels, ring.classes, RingOfGaussians().classes) == (0, 0, 8, 0)
    small = Shards("x", resolution=32, derive=(LowResolution("small", of="image", factor=4),))
    assert small.derived() == {"resolution": 32, "channels": 3, "classes": 0, "small_factor": 4}


@dataclass(frozen=True, kw_only=True)
class Noise(Computed):
    """Pictures without files, of one of four classes."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return Image("image", 16, channels=1), Label("label", 4)

    def rows(self, positions: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
        raise AssertionError


def test_a_computed_source_of_pictures_decides_what_files_of_pictures_do() -> None:
    source = Noise(derive=(LowResolution("small", of="image", factor=2),))
    assert (source.resolution, source.channels, source.classes) == (16, 1, 4)
    assert source.derived() == {"resolution": 16, "channels": 1, "classes": 4, "small_factor": 2}
