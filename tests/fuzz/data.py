"""Data sets: shards, their indexes, manifests and records, the pictures in them, and what `framework pack` reads."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from framework.data.errors import DataError
from framework.data.index import index_shard, parse_index
from framework.data.inspection import find_faults, report_on
from framework.data.packing.images import Target, encode, encode_sample
from framework.data.readers import open_source
from framework.data.readers.pairs import open_paired, split_aligned
from framework.data.stream import open_stream
from tests.fuzz.containers import (
    idx,
    idx_edited,
    index_edited,
    jpeg_edited,
    png_edited,
    table_edited,
    tar,
    tar_edited,
    zip_edited,
)
from tests.fuzz.mutation import damaged, json_edited
from tests.fuzz.reader import Reader
from tests.fuzz.reader import Target as File
from tests.helpers.odd_pictures import as_file
from tests.unit.data.field_helpers import FIELDS, POINTS, make_fields, members
from tests.unit.data.stream_helpers import encoded, make_set

logging.getLogger("framework").setLevel(logging.CRITICAL)
SIDE, CLASSES = 16, 3
_SHARD = "train-000000.tar"
_FORM = Target(
    sides=(8,),
    resize=True,
    channels=3,
    grey_only=False,
    encoding="png",
    crop="center",
    resize_filter="lanczos",
    pyramid_filter="box",
    pad=None,
)


def _set(folder: Path) -> None:
    make_set(folder / "a", sizes=(3, 2), side=SIDE, classes=CLASSES)


def _stream(folder: Path, **options: Any) -> Any:
    """All samples of one epoch, by the trainer's own way."""
    stream = open_stream(
        folder, resolution=SIDE, classes=CLASSES, workers=0, cache_folder=folder.parent / "cache", **options
    )
    with stream.batches(0, batch_size=2, stop=min(stream.count, 8)) as batches:
        return [[batch.keys, batch.images, batch.labels] for batch in batches]


def _read_set(folder: Path) -> Any:
    read = _stream(folder / "a")
    report_on(str(folder / "a"), cache_folder=folder / "cache")
    return read


def _read_hashed(folder: Path) -> Any:
    return _stream(folder / "a", verify="sha256")


def _verify(folder: Path) -> Any:
    """Faults are an answer; the first becomes the error that a command would end with."""
    found = find_faults(str(folder / "a"), cache_folder=folder / "cache")
    if found.faults:
        raise DataError(found.faults[0])
    return found.num_decoded


def _resolutions(folder: Path) -> None:
    for side in (8, 16):
        make_set(folder / f"a/r{side:03d}", sizes=(2,), side=side, classes=CLASSES)
    (folder / "a/manifest.json").write_text('{"format": 1, "resolutions": {"8": "r008", "16": "r016"}}')
    (folder / "a/self").symlink_to(".")


def _foreign(folder: Path) -> None:
    kinds = ("png", "jpg", "webp")
    members = [
        (f"{n}.{suffix}", content)
        for n, kind in enumerate(kinds)
        for suffix, content in (("cls", b"%d" % n), (kind, encoded(n, SIDE, 3, kind)))
    ]
    (folder / "a").mkdir()
    for name, kind in (("s.tar", tarfile.USTAR_FORMAT), ("p.tar", tarfile.PAX_FORMAT), ("g.tar", tarfile.GNU_FORMAT)):
        (folder / name).write_bytes(tar(members, kind=kind, long_names=kind != tarfile.USTAR_FORMAT))
    shutil.copy(folder / "s.tar", folder / "a/s.tar")


def _index(folder: Path) -> Any:
    return [index_shard(folder / name) for name in ("s.tar", "p.tar", "g.tar")]


def _survey(folder: Path) -> Any:
    for path in (folder / "a").iterdir():
        if path.name != "s.tar":
            path.unlink()
    return _stream(folder / "a")


def _recorded(folder: Path) -> None:
    _foreign(folder)
    _stream(folder / "a")


def _lines(folder: Path) -> Any:
    lines = parse_index((folder / "a" / "train-000000.idx").read_bytes(), origin="here")
    return list(lines)


_PICTURES = {
    "a.png": ("PNG", "RGB"), "b.jpg": ("JPEG", "RGB"), "c.webp": ("WEBP", "RGBA"), "d.png": ("PNG", "LA"),
    "e.gif": ("GIF", "P"), "f.bmp": ("BMP", "RGB"), "g.tif": ("TIFF", "RGB"), "h.ppm": ("PPM", "RGB"),
    "i.avif": ("AVIF", "RGB"), "j.png": ("PNG", "I;16"), "k.jpg": ("JPEG", "CMYK"),
}  # fmt: skip


def _pictures(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    for name, (kind, mode) in _PICTURES.items():
        settings: dict[str, Any] = {"progressive": True} if name == "b.jpg" else {}
        image = Image.fromarray(pixels)
        image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        (folder / name).write_bytes(as_file(image, kind, **settings))


def _pack_pictures(folder: Path) -> Any:
    """Each as `framework pack` sees it, and as a shard of the stream."""
    source = open_source(folder, labels=False)
    try:
        seen = [encode(source.read(number), _FORM).files for number in range(len(source))]
    finally:
        source.close()
    return seen


def _train_on_pictures(folder: Path) -> Any:
    there = [name for name in _PICTURES if (folder / name).is_file() and (folder / name).stat().st_size < 1 << 20]
    members = [(name, (folder / name).read_bytes()) for name in there]
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards/s.tar").write_bytes(tar(members))
    try:
        stream = open_stream(folder / "shards", resolution=SIDE, workers=0, cache_folder=folder / "cache")
        with stream.batches(0, batch_size=1, stop=stream.count) as batches:
            return [batch.images for batch in batches]
    finally:
        shutil.rmtree(folder / "shards")


def _arrays(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(idx(images, zipped=True))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(6, dtype=np.uint8), zipped=False))
    (folder / "b").mkdir()
    (folder / "b/train-images-idx3-ubyte").write_bytes(idx(images, zipped=False))
    np.savez_compressed(folder / "a.npz", images=images, labels=np.arange(6))


def _packed(location: Path, *, labels: bool = True) -> Any:
    source = open_source(location, labels=labels)
    try:
        return [source.labels, [source.read(number) for number in range(min(len(source), 20))]]
    finally:
        source.close()


def _tables(folder: Path) -> None:
    (folder / "a.csv").write_text("x,kind,y\n" + "".join(f"{n / 3},{n % 2},{-n}\n" for n in range(30)))
    (folder / "b.csv").write_text("".join(f"{n},{'cat' if n % 2 else 'dog'}\n" for n in range(30)))
    (folder / "c.csv").write_text("1,2\n3,4\n5,6\n")


def _pack_tables(folder: Path) -> Any:
    found = []
    for name, column in (("a.csv", "kind"), ("b.csv", "2"), ("c.csv", "")):
        source = open_source(folder / name, label_column=column)
        rows = [np.frombuffer(source.read(number), "<f4") for number in range(min(len(source), 20))]
        assert all(np.isfinite(row).all() and len(row) == source.dims for row in rows)
        found.append([source.labels, source.class_names, rows])
    return found


_TABLE = b'{"labels": [["a.png", 0], ["x/b.png", 1], ["c.jpg", 2]]}'


def _folders(folder: Path) -> None:
    files = {"a.png": encoded(0, 8, 3, "png"), "x/b.png": encoded(1, 8, 3, "png"), "c.jpg": encoded(2, 8, 3, "jpg")}
    for name, content in (files | {"dataset.json": _TABLE}).items():
        path = folder / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files | {"dataset.json": _TABLE}).items():
            archive.writestr(name, content)


def _table_edited(random: Random, data: bytes) -> bytes:
    """Another `dataset.json` in a zip that is whole."""
    return zip_edited(data, "dataset.json", json_edited(random, _TABLE))


def _fields(folder: Path) -> None:
    """The files of a sample that has fields of every kind, and a data set of such samples."""
    for name, content in members(1).items():
        (folder / name).write_bytes(content)
    make_fields(folder / "a", sizes=(2,))


def _read_fields(folder: Path) -> Any:
    """The files as the sample of a shard that is whole, and the data set beside them."""
    there = [name for name in members(1) if (folder / name).is_file() and (folder / name).stat().st_size < 1 << 20]
    changed = {0: {name: (folder / name).read_bytes() if name in there else None for name in members(1)}}
    try:
        made = make_fields(folder / "b", sizes=(1,), changed=changed)
        read = [_stream_of_fields(made), _stream_of_fields(folder / "a")]
        report_on(str(folder / "a"), cache_folder=folder / "cache")
        return read
    finally:
        shutil.rmtree(folder / "b", ignore_errors=True)


def _stream_of_fields(folder: Path) -> Any:
    stream = open_stream(folder, fields=(*FIELDS, POINTS), workers=0, cache_folder=folder.parent / "cache")
    with stream.batches(0, batch_size=1, stop=min(stream.count, 2)) as batches:
        return [batch.fields for batch in batches]


def _verify_fields(folder: Path) -> Any:
    found = find_faults(str(folder / "a"), cache_folder=folder / "cache")
    if found.faults:
        raise DataError(found.faults[0])
    return found.num_decoded


_PAIR_FORMS = (
    dataclasses.replace(_FORM, field="source"),
    dataclasses.replace(_FORM, field="mask", kind="mask", channels=1),
    dataclasses.replace(_FORM, field="parts", kind="label map", channels=1),
)


def _pairs(folder: Path) -> None:
    for name, content in members(1).items():
        field, _, kind = name.partition(".")
        if kind == "png":
            (folder / field).mkdir()
            (folder / field / "1.png").write_bytes(content)


def _pack_pairs(folder: Path) -> Any:
    """Pictures of one sample in folders, and one picture that is cut."""
    together = open_paired(folder, [form.field for form in _PAIR_FORMS])
    cut = split_aligned(open_source(folder / "target", labels=False), 2)
    return [
        encode_sample(together.parts(0), _PAIR_FORMS),
        encode_sample(cut.parts(0), [_FORM, dataclasses.replace(_FORM, kind="mask", channels=1)]),
    ]


_JSON = (damaged, json_edited, json_edited)

READERS = (
    Reader(
        name="fields in a shard",
        make=_fields,
        read=_read_fields,
        targets=tuple(File(path=name, mutators=(damaged, png_edited)) for name in members(1)),
    ),
    Reader(
        name="data manifest of fields",
        make=_fields,
        read=_read_fields,
        targets=(File(path="a/manifest.json", mutators=_JSON),),
    ),
    Reader(
        name="data manifest of fields, verified",
        make=_fields,
        read=_verify_fields,
        targets=(File(path="a/manifest.json", mutators=_JSON),),
    ),
    Reader(
        name="pairs to pack",
        make=_pairs,
        read=_pack_pairs,
        targets=tuple(
            File(path=f"{name}/1.png", mutators=(damaged, png_edited)) for name in ("source", "target", "mask", "parts")
        ),
    ),
    Reader(
        name="tar",
        make=_foreign,
        read=_index,
        targets=tuple(File(path=name, mutators=(damaged, tar_edited)) for name in ("s.tar", "p.tar", "g.tar")),
    ),
    Reader(
        name="shards of others",
        make=_foreign,
        read=_survey,
        targets=(File(path="a/s.tar", mutators=(damaged, tar_edited)),),
    ),
    Reader(
        name="record of a shard",
        make=_recorded,
        read=lambda folder: _stream(folder / "a"),
        targets=(
            File(path="a/s.survey.json", mutators=_JSON),
            File(path="a/s.idx", mutators=(damaged, index_edited)),
        ),
    ),
    Reader(
        name="data manifest",
        make=_set,
        read=_read_set,
        targets=(File(path="a/manifest.json", mutators=_JSON),),
    ),
    Reader(
        name="data manifest, verified",
        make=_set,
        read=_verify,
        targets=(
            File(path="a/manifest.json", mutators=_JSON),
            File(path=f"a/{_SHARD}", mutators=(damaged, tar_edited)),
        ),
    ),
    Reader(
        name="manifest of resolutions",
        make=_resolutions,
        read=_read_set,
        targets=(File(path="a/manifest.json", mutators=_JSON),),
    ),
    Reader(
        name="index of a shard",
        make=_set,
        read=_read_set,
        targets=(File(path="a/train-000000.idx", mutators=(damaged, index_edited)),),
    ),
    Reader(
        name="shard and index, hashed",
        make=_set,
        read=_read_hashed,
        targets=(
            File(path="a/train-000000.idx", mutators=(damaged, index_edited)),
            File(path=f"a/{_SHARD}", mutators=(damaged, tar_edited)),
        ),
        protected=True,
    ),
    Reader(
        name="pictures to pack",
        make=_pictures,
        read=_pack_pictures,
        targets=tuple(File(path=name, mutators=(damaged, png_edited, jpeg_edited)) for name in _PICTURES),
    ),
    Reader(
        name="pictures in a shard",
        make=_pictures,
        read=_train_on_pictures,
        targets=tuple(File(path=name, mutators=(damaged, png_edited, jpeg_edited)) for name in _PICTURES),
    ),
    Reader(
        name="idx to pack",
        make=_arrays,
        read=lambda folder: [_packed(folder), _packed(folder / "b/train-images-idx3-ubyte", labels=False)],
        targets=tuple(
            File(path=name, mutators=(damaged, idx_edited))
            for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "b/train-images-idx3-ubyte")
        ),
    ),
    Reader(
        name="npz to pack",
        make=_arrays,
        read=lambda folder: _packed(folder / "a.npz"),
        targets=(File(path="a.npz"),),
    ),
    Reader(
        name="tables to pack",
        make=_tables,
        read=_pack_tables,
        targets=tuple(File(path=name, mutators=(damaged, table_edited)) for name in ("a.csv", "b.csv", "c.csv")),
    ),
    Reader(
        name="zip to pack",
        make=_folders,
        read=lambda folder: _packed(folder / "a.zip"),
        targets=(File(path="a.zip", mutators=(damaged, damaged, _table_edited)),),
    ),
    Reader(
        name="folder to pack",
        make=_folders,
        read=lambda folder: _packed(folder / "a"),
        targets=(File(path="a/dataset.json", mutators=_JSON), File(path="a/a.png")),
    ),
)
