"""Runs on every kind of source: fields written out, several sources on one clock, and rows that are computed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framework import Image, Label, RingOfGaussians, Shards, Sources, Stacked
from framework.checkpoint import Checkpoint
from framework.recipe.description import describe, science_hash
from framework.train.config import RunConfig
from framework.train.sources import data_location, open_data, open_held_out
from framework.train.trainer import run
from framework.utils.errors import FrameworkError
from tests.helpers.judged import ALONE
from tests.helpers.launch import ROOT, unequal
from tests.recipes import tiny_pix2pix, tiny_sagan

DATA = ROOT / "recipes/data/fashion_mnist"
USUAL = (Image("image", 32, 1), Label("label", 10))


def train(out: Path, data: Any = None, *, images: int = 64) -> Path:
    """A run in this process; its newest checkpoint."""
    recipe = tiny_sagan.RECIPE if data is None else replace(tiny_sagan.RECIPE, data=data)
    recipe = replace(recipe, images=images)
    config = RunConfig(out=out, images=images, tracking="none", workers=0, log_every_images=32, save_every_images=32)
    run(recipe, config, session=ALONE, data=str(DATA) if isinstance(recipe.data, Shards) else "")
    return out / "checkpoints" / str(images)


def test_fields_that_are_written_out_train_as_the_short_form(tmp_path: Path) -> None:
    short = tiny_sagan.RECIPE.data
    written_out = Shards(short.location, fields=USUAL, flip=short.flip, window=short.window)
    assert unequal(*(train(tmp_path / name, data, images=32) for name, data in (("a", None), ("b", written_out)))) == []


def several(**first: Any) -> dict[str, Any]:
    pictures = Shards(str(DATA), **{"fields": USUAL[:1], "flip": True, "window": 500} | first)
    return {"pictures": pictures, "points": RingOfGaussians(modes=8)}


def test_several_sources_resume_where_they_stood(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", several())
    train(tmp_path / "halves", several(), images=32)
    halves = train(tmp_path / "halves", several())
    assert unequal(whole, halves) == []
    with Checkpoint.open(whole) as checkpoint:
        assert checkpoint.record["data"]["count"] == 1750
        assert checkpoint.document("recipe.json")["data"]["sources"]["points"]["modes"] == 8
    other = several() | {"points": RingOfGaussians(modes=9)}
    with pytest.raises(FrameworkError, match=r"data\.sources\.points\.modes: 8 -> 9"):
        train(tmp_path / "halves", other, images=96)


STACKED = Stacked(of=Shards(str(DATA), resolution=32, channels=1, classes=10))


def opened(source: Any, *, resolution: int | None = None, **flags: Any) -> Any:
    data = Sources(source) if isinstance(source, dict) else source
    recipe: Any = SimpleNamespace(name="tiny", seed=0, data=data)
    config = RunConfig(workers=0, **flags)
    location = data_location(recipe, config)
    return open_data(recipe, config, session=ALONE, location=location, resolution=resolution)


def test_every_source_is_opened_with_the_fields_it_names() -> None:
    for data, names in (
        (Shards(str(DATA), fields=USUAL), ["image", "label"]),
        (Shards(str(DATA), resolution=16, channels=1), ["image"]),
        (RingOfGaussians(labelled=True), ["point", "label"]),
        (several(), ["image", "point"]),
        (STACKED, ["image", "label"]),
        ({"stacked": STACKED, "points": RingOfGaussians()}, ["image", "label", "point"]),
    ):
        with opened(data).batches(7, batch_size=5) as batches:
            for batch in itertools.islice(batches, 2):
                assert list(batch.fields) == names
                assert all(len(values) == 5 for values in batch.fields.values())
    with pytest.raises(FrameworkError, match="the samples have no picture, only point"):
        assert next(opened(RingOfGaussians()).batches(0, batch_size=2)).images is None


def test_a_stacked_source_is_where_the_flag_says_and_tells_no_secret(tmp_path: Path) -> None:
    away = Stacked(of=Shards("nowhere", resolution=32, channels=1))
    assert opened(away, data=str(DATA)).count == opened(STACKED).count
    with pytest.raises(FrameworkError, match=r"the data of tiny is neither at .* with --data"):
        opened(away)
    with pytest.raises(
        FrameworkError, match=r"tiny, digits, is neither at .* --set data\.sources\.digits\.of\.location"
    ):
        opened({"digits": Stacked(of=Shards("nowhere", fields=USUAL))})
    with opened(STACKED, resolution=8).batches(0, batch_size=2) as batches:
        assert next(batches).images.shape == (2, 3, 8, 8)
    secret = Stacked(of=Shards("https://user:secret@host/set", resolution=32, channels=1))
    told = describe(replace(tiny_sagan.RECIPE, data=secret))
    assert (told["data"]["type"], told["data"]["of"]["resolution"]) == ("Stacked", 32)
    assert "secret" not in str(told)
    same = replace(tiny_sagan.RECIPE, data=Stacked(of=Shards("elsewhere", resolution=32, channels=1)))
    assert science_hash(same) == science_hash(replace(same, data=secret)), "where the data lies is no science"


def test_a_phase_of_a_growing_recipe_reads_its_own_resolution() -> None:
    for data in (Shards(str(DATA), resolution=32, channels=1), Shards(str(DATA), fields=USUAL)):
        with opened(data, resolution=8).batches(0, batch_size=2) as batches:
            assert next(batches).images.shape == (2, 1, 8, 8)
    with pytest.raises(FrameworkError, match="a recipe of several sources cannot grow"):
        opened(several(), resolution=8)
    with pytest.raises(FrameworkError, match="growth: needs one picture a sample, without `stored`"):
        opened(Shards(str(DATA), fields=(Image("image", 28, 1, stored=32),)), resolution=8)


def test_a_place_is_named_only_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match=r"--data names the place .*; set data\.sources\.NAME\.location by --set"):
        opened(several(), data="elsewhere")
    with pytest.raises(FrameworkError, match="--data names the place of one set of shards, tiny does not have"):
        opened(RingOfGaussians(), data="elsewhere")
    with pytest.raises(FrameworkError, match="the data of tiny, pictures, is neither at"):
        opened(several() | {"pictures": Shards("nowhere", fields=USUAL)})


def test_held_out_samples_that_are_not_there_are_named_with_the_flag_that_helps(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path, tracking="none")
    with pytest.raises(FrameworkError, match=r"tiny_pix2pix, held out, is neither at .*--set held_out.location=PLACE"):
        open_held_out(tiny_pix2pix.RECIPE, config)
    with pytest.raises(FrameworkError, match=r"tiny_pix2pix is neither at .* or say where it is with --data$"):
        data_location(tiny_pix2pix.RECIPE, config)
    held_out = replace(tiny_pix2pix.FIELDS[0], name="image", size=32)
    recipe = replace(tiny_sagan.RECIPE, held_out=Shards(str(DATA), fields=(held_out,)))
    opened_samples = open_held_out(recipe, config)
    assert opened_samples is not None
    assert opened_samples.count == 1750
