"""Checkpoints whose manifest is signed, whatever it and the recipe say: a named error, before memory is taken."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from framework.sampling.load import load_generator
from framework.utils.errors import FrameworkError
from tests.fuzz.checkpoints import _write
from tests.fuzz.mutation import resigned_document, signed

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    _write(tmp_path, (64,))
    return tmp_path / "64"


def _recipe_edited(folder: Path, change: Change) -> None:
    path = folder / "recipe.json"
    recipe = json.loads(path.read_text())
    change(recipe)
    path.write_text(json.dumps(recipe))
    resigned_document(folder, path.name)


def _manifest_edited(folder: Path, change: Change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_bytes(signed(json.dumps(manifest).encode()))


def _options(**changed: object) -> Change:
    return lambda recipe: recipe["generator"]["network"]["options"].update(changed)


def _draws(**changed: object) -> Change:
    return lambda recipe: recipe.update(samples={"kind": "pictures", "name": "image"} | changed)


def test_an_undisturbed_one_draws(checkpoint: Path) -> None:
    _recipe_edited(checkpoint, lambda recipe: None)
    _manifest_edited(checkpoint, lambda manifest: None)
    loaded = load_generator(checkpoint)
    assert loaded.draw(torch.ones(1, loaded.z_dim)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda recipe: recipe.pop("generator"), "generator"),
        (lambda recipe: recipe["generator"].pop("network"), "network"),
        (lambda recipe: recipe["generator"]["network"].pop("options"), "not described by its class and options"),
        (lambda recipe: recipe["generator"]["network"].update(options=[]), "not described by its class and options"),
        (lambda recipe: recipe["generator"]["network"]["options"].pop("resolution"), "its recipe says"),
        (lambda recipe: recipe["generator"]["network"].update({"class": "framework.networks.dcgan.\0"}), "no network"),
        (lambda recipe: recipe["generator"]["network"].update({"class": "framework.networks.a\0b.C"}), "no network"),
        (lambda recipe: recipe["generator"]["network"].update({"class": "os\0.system"}), "not part of framework"),
        (_options(**{"a\0b": 1}), "option|argument"),
        (_options(width=1 << 20), "far larger than"),
        (_options(width=1 << 60), "larger than"),
        (_options(width=-1), "width"),
        (_options(width="2"), "width|damaged"),
        (_options(width=None), "width|damaged"),
        (_options(z_dim=1 << 24), "far larger than"),
        (_options(resolution=1 << 20), "far larger than"),
        (_options(resolution=[8]), "resolution|damaged"),
        (lambda recipe: recipe.update(data=3), "damaged"),
        (lambda recipe: recipe["data"].update(classes=1 << 40), r"data\.classes must be a count"),
        (lambda recipe: recipe.update(class_names="x"), "class_names a list"),
        (_draws(latents=[{"type": "Gaussian", "width": 1 << 40}]), "the latents are .* wide"),
        (_draws(latents=[{"type": "Sequential", "width": 8}]), "is none of Gaussian"),
        (_draws(latents=[{"type": "Gaussian", "width": [8]}]), "width"),
        (_draws(kind="translations"), "need a source and a target"),
    ],
)
def test_a_recipe_that_asks_for_another_network(checkpoint: Path, change: Change, why: str) -> None:
    _recipe_edited(checkpoint, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FrameworkError, match=why):
        load_generator(checkpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # in KB


def _first(manifest: dict[str, Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = manifest["tensors"]
    return tensors[min(tensors)]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["files"].update({"a\0b": {"bytes": 1, "sha256": "0" * 64}}),
        lambda manifest: manifest["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.update(tensors=3),
        lambda manifest: manifest.update(images="64"),
        lambda manifest: manifest.update(images=True),
        lambda manifest: manifest.update(world=1 << 70),
        lambda manifest: manifest["tensors"].clear(),
        lambda manifest: _first(manifest).update(shape=[1 << 40]),
        lambda manifest: _first(manifest).update(shape="x"),
        lambda manifest: _first(manifest).update(dtype="F\0"),
        lambda manifest: _first(manifest).clear(),
    ],
)
def test_a_manifest_of_wrong_types(checkpoint: Path, change: Change) -> None:
    _manifest_edited(checkpoint, change)
    with pytest.raises(FrameworkError):
        load_generator(checkpoint)


def test_nothing_is_signed_by_hand(checkpoint: Path) -> None:
    """The changes above are seen because the digest agrees; without it that is the complaint."""
    path = checkpoint / "manifest.json"
    path.write_text(path.read_text().replace('"world": 1', '"world": 2').replace('"world":1', '"world":2'))
    with pytest.raises(FrameworkError, match=r"manifest\.json"):
        load_generator(checkpoint)
