"""Shards with one damaged picture that training does not come to, and an evaluation does."""

from __future__ import annotations

import shutil
from pathlib import Path

from framework.data.stream import open_stream
from framework.recipe import Recipe


def damaged_copy(data: Path, out: Path, *, recipe: Recipe, unread_images: int) -> Path:
    """A copy in which the picture of one sample is zeros: the last of the epoch that the first so many are not."""
    described = recipe.data
    stream = open_stream(
        data,
        resolution=described.resolution,
        channels=described.channels,
        classes=described.classes,
        seed=recipe.seed,
        window=described.window,
        workers=0,
    )
    places = [stream.order.locate(position)[1:] for position in range(stream.count)]
    shard, sample = next(place for place in reversed(places) if place not in set(places[:unread_images]))
    shutil.copytree(data, out)
    tar = out / stream.manifest.shards[shard].name
    fields = tar.with_suffix(".idx").read_text().splitlines()[1 + sample].split()
    begin, length = int(fields[5]), int(fields[6])
    content = bytearray(tar.read_bytes())
    content[begin : begin + length] = bytes(length)
    tar.write_bytes(content)
    return out
