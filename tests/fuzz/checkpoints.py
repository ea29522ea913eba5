"""Checkpoints: the manifest and its tensors, falling back to an older one, and networks described by options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from framework.checkpoint import Checkpoint, Retention, TensorSlice, Writer, newest_valid, read_scores
from framework.data.fields import Image
from framework.networks import dcgan
from framework.networks.latents import Categorical, Gaussian
from framework.recipe import Network
from framework.recipe.description import describe_network
from framework.sampling.drawn import Drawn
from framework.sampling.load import load_generator
from framework.utils.bounded import decoding, read_object
from framework.utils.errors import FrameworkError
from tests.fuzz.mutation import damaged, json_edited, json_signed, resigned_document
from tests.fuzz.reader import Reader, Target


def _write(folder: Path, clocks: tuple[int, ...]) -> None:
    network = Network(dcgan.Generator, resolution=8, channels=1, z_dim=3, width=2)
    torch.manual_seed(0)
    built = network.build()
    recipe = {
        "name": "tiny",
        "data": {"resolution": 8, "channels": 1, "classes": 0},
        "batch_size": 4,
        "game": {"critic_steps": 1},
        "growth": None,
        "generator": {"network": describe_network(network)},
    }
    pieces = [
        TensorSlice(
            key=f"generator/{kind}/{name}", start=0, values=values.detach().flatten(), shape=tuple(values.shape)
        )
        for kinds, tensors in (
            (("weight", "ema"), built.named_parameters()),
            (("buffer", "ema_buffer"), built.named_buffers()),
        )
        for name, values in tensors
        for kind in kinds
    ]
    with Writer(folder, rank=0, world=1, token="t", retention=Retention(last=None)) as writer:
        for images in clocks:
            writer.save(images, pieces, documents={"recipe.json": recipe}, record={"data": {"count": 7}, "x": [1.5]})
            writer.wait()


def _one(folder: Path) -> None:
    _write(folder, (64,))
    (folder / "64" / "scores.json").write_text('{"fid50k-1a2b3c4d": 12.5, "kid": 0.25}')


def _all(folder: Path) -> Any:
    with Checkpoint.open(folder / "64") as checkpoint:
        checkpoint.verify("hash")
        tensors = {key: checkpoint.full(key) for key in checkpoint.keys()}  # noqa: SIM118
        return tensors, checkpoint.document("recipe.json"), checkpoint.record


def _unverified(folder: Path) -> Any:
    with Checkpoint.open(folder / "64") as checkpoint:
        return {key: checkpoint.full(key).shape for key in checkpoint.keys()}  # noqa: SIM118


def _newest(folder: Path) -> Any:
    try:
        found, _ = newest_valid(folder)
    except FrameworkError as error:
        raise AssertionError("a damaged checkpoint must not hide an older one") from error
    assert found is not None
    with found:
        return {key: found.full(key) for key in found.keys()}  # noqa: SIM118


def _draw(folder: Path) -> Any:
    loaded = load_generator(folder / "64")
    assert loaded.classes >= 0
    return loaded.draw(torch.ones(1, loaded.z_dim)).shape


_TRANSLATIONS = Drawn(kind="translations", name="generated", source=Image("a", 8, 1), target=Image("b", (8, 16)))
_LATENTS = Drawn(latents=(Gaussian(3), Categorical(4, name="c")))


_DRAWN = {"pairs": _TRANSLATIONS, "codes": _LATENTS, "points": Drawn(kind="vectors", name="point")}


def _drawn(folder: Path) -> list[Drawn]:
    path = folder / "samples.json"
    told = read_object(path)
    with decoding(path):
        found = [Drawn.from_json(told.get(name)) for name in _DRAWN]
    assert [Drawn.from_json(one.to_json()) for one in found] == found
    return found


def _write_drawn(folder: Path) -> None:
    told = {name: one.to_json() for name, one in _DRAWN.items()}
    (folder / "samples.json").write_text(json.dumps(told))


_MANIFEST = "64/manifest.json"

READERS = (
    Reader(
        name="checkpoint",
        make=_one,
        read=_all,
        targets=tuple(
            Target(path=f"64/{name}") for name in ("manifest.json", "recipe.json", "model-00001-of-00001.safetensors")
        ),
        protected=True,
    ),
    Reader(
        name="checkpoint, signed manifest",
        make=_one,
        read=_unverified,
        targets=(Target(path=_MANIFEST, mutators=(json_signed,)),),
    ),
    Reader(
        name="checkpoint, tensors not hashed",
        make=_one,
        read=_unverified,
        targets=(Target(path="64/model-00001-of-00001.safetensors"),),
    ),
    Reader(
        name="newest intact checkpoint",
        make=lambda folder: _write(folder, (32, 64)),
        read=_newest,
        targets=(
            Target(path=_MANIFEST, mutators=(damaged, json_edited)),
            Target(path="64/model-00001-of-00001.safetensors"),
        ),
        protected=True,
    ),
    Reader(
        name="described network",
        make=_one,
        read=_draw,
        targets=(
            Target(
                path="64/recipe.json",
                mutators=(json_edited,),
                finish=lambda path: resigned_document(path.parent, path.name),
            ),
        ),
    ),
    Reader(
        name="what a checkpoint draws",
        make=_write_drawn,
        read=_drawn,
        targets=(Target(path="samples.json", mutators=(json_edited,)),),
    ),
    Reader(
        name="scores.json",
        make=_one,
        read=lambda folder: read_scores(folder / "64"),
        targets=(Target(path="64/scores.json", mutators=(damaged, json_edited)),),
    ),
)
