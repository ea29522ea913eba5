"""A small data set whose samples have fields of every kind; every pixel tells the sample and its own place."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from framework.data.fields import Field, Image, Label, LabelMap, Mask
from framework.data.index import index_shard, write_index
from framework.data.manifest import FieldEntry, Manifest, ShardEntry, file_sha256, save_manifest
from framework.data.points import Points, Vector
from tests.unit.data.stream_helpers import write_tar

HEIGHT, WIDTH, CLASSES = 12, 16, 3
FIELDS: tuple[Field, ...] = (
    Image("source", (HEIGHT, WIDTH), 1),
    Image("target", (HEIGHT, WIDTH), 3),
    Image("layer", (2 * HEIGHT, 2 * WIDTH), 4),
    Mask("mask", (HEIGHT, WIDTH)),
    LabelMap("parts", (HEIGHT, WIDTH), classes=HEIGHT),
    Label("label", CLASSES),
    Vector("code", 3),
)
POINTS = Points("places", dims=2, most=4)
"""Not among the others, because it cannot be mirrored."""


def expected(number: int) -> dict[str, np.ndarray]:
    """The fields of a sample as they are stored, pictures (H, W) or (H, W, C)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    fine_rows, fine_columns = np.mgrid[: 2 * HEIGHT, : 2 * WIDTH].astype(np.uint8)
    return {
        "source": 16 * rows + columns,
        "target": np.stack([rows, columns, np.full_like(rows, number)], axis=2),
        "layer": np.stack([fine_rows, fine_columns, np.full_like(fine_rows, number), 255 - fine_rows], axis=2),
        "mask": ((rows + columns + number) % 3 == 0).astype(np.uint8),
        "parts": rows,
        "label": np.array(number % CLASSES),
        "code": np.array([number, 0.5, -1], np.float32),
        "places": np.arange(2 * (number % 5), dtype=np.float32).reshape(-1, 2),
    }


def png(pixels: np.ndarray, *, palette: bool = False) -> bytes:
    image = Pillow.fromarray(pixels)
    if palette:
        image.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def members(number: int) -> dict[str, bytes]:
    """The files of a sample by extension."""
    sample = expected(number)
    return {
        "cls": b"%d" % sample["label"],
        "source.png": png(sample["source"]),
        "target.png": png(sample["target"]),
        "layer.png": png(sample["layer"]),
        "mask.png": png(255 * sample["mask"]),
        "parts.png": png(sample["parts"], palette=True),
        "code.f32": sample["code"].astype("<f4").tobytes(),
        "places.f32": sample["places"].astype("<f4").tobytes(),
    }


def make_fields(
    folder: Path, *, sizes: tuple[int, ...] = (7, 6), changed: dict[int, dict[str, bytes | None]] | None = None
) -> Path:
    """A data set of sum(sizes) such samples; `changed` are other files of some, None for one that is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    number, entries = 0, []
    for shard, size in enumerate(sizes):
        files: list[tuple[str, bytes]] = []
        for _ in range(size):
            found = {**members(number), **(changed or {}).get(number, {})}
            files += [(f"{number:04d}.{name}", content) for name, content in found.items() if content is not None]
            number += 1
        path = write_tar(folder / f"train-{shard:06d}.tar", files)
        write_index(path.with_suffix(".idx"), index_shard(path))
        entries.append(ShardEntry(name=path.name, count=size, bytes=path.stat().st_size, sha256=file_sha256(path)))
    plane = {"height": HEIGHT, "width": WIDTH}
    pictures = (
        FieldEntry(name="source", kind="image", channels=1, **plane),
        FieldEntry(name="target", kind="image", channels=3, **plane),
        FieldEntry(name="layer", kind="image", channels=4, height=2 * HEIGHT, width=2 * WIDTH),
        FieldEntry(name="mask", kind="mask", channels=1, **plane),
        FieldEntry(name="parts", kind="label map", channels=1, **plane),
    )
    manifest = Manifest(
        name="fields",
        split="train",
        resolution=WIDTH,
        channels=1,
        shards=tuple(entries),
        classes=CLASSES,
        fields=pictures,
    )
    save_manifest(manifest, folder)
    return folder
