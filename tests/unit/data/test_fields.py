"""Samples of named fields: every kind is read exactly, in one view, by any worker, rank and start."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from framework.data.batches import Batch
from framework.data.errors import DataError, ShardError
from framework.data.fields import INDEX_SUFFIX, Field, Image, Label, LabelMap, Mask, Picture, fields_of
from framework.data.inspection import find_faults, report_on
from framework.data.manifest import load_manifest
from framework.data.points import Points, Vector
from framework.data.stream import Stream, open_stream
from framework.recipe import Shards
from tests.unit.data.field_helpers import FIELDS, HEIGHT, POINTS, WIDTH, expected, make_fields, png
from tests.unit.data.stream_helpers import make_set

KINDS = [("thread", 0), ("thread", 2), ("process", 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fields(tmp_path_factory.mktemp("fields"))


def opened(location: Path, **options: Any) -> Stream:
    return open_stream(location, **{"fields": FIELDS, "seed": 3, "worker_kind": "thread"} | options)


def take(stream: Stream, count: int, start: int = 0, **share: Any) -> list[Batch]:
    with stream.batches(start, **{"batch_size": 6} | share) as batches:
        return list(itertools.islice(batches, count))


def rows(batches: list[Batch]) -> dict[int, dict[str, Any]]:
    """The fields of each position, as lists."""
    return {
        position: {name: values[row].tolist() for name, values in batch.fields.items()}
        for batch in batches
        for row, position in enumerate(batch.positions)
    }


def as_planes(pixels: np.ndarray, of: Field) -> np.ndarray:
    return pixels if isinstance(of, LabelMap) else pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("kind", "workers"), KINDS)
def test_every_field_is_read_exactly(folder: Path, kind: str, workers: int, last: bool) -> None:
    stream = opened(folder, fields=(*FIELDS, POINTS), worker_kind=kind, workers=workers, channels_last=last)
    for batch in take(stream, 5, micro_batches=2):
        index = batch.fields["places" + INDEX_SUFFIX]
        for row, key in enumerate(batch.keys):
            stored = expected(int(key))
            for of in FIELDS:
                got = batch.fields[of.name][row].numpy()
                want = as_planes(stored[of.name], of) if isinstance(of, Picture) else stored[of.name]
                assert (got.shape, got.dtype) == (want.shape, np.dtype(of.row(channels_last=False).dtype)), of
                assert (got == want).all(), of
            assert (batch.fields["places"][index == row].numpy() == stored["places"]).all()


def test_the_short_form_is_an_image_and_a_label(tmp_path: Path) -> None:
    plain = make_set(tmp_path, sizes=(9, 8), classes=5)
    written_out = (Image("image", 16), Label("label", 5))
    assert fields_of(Shards("x", resolution=16, classes=5)) == written_out
    assert fields_of(Shards("x", resolution=16, channels=1)) == (Image("image", 16, 1),)
    short = open_stream(plain, resolution=16, classes=5, flip=True, worker_kind="thread")
    long = open_stream(plain, fields=written_out, flip=True, worker_kind="thread")
    assert short.describe() == long.describe()
    assert rows(take(short, 4, 11)) == rows(take(long, 4, 11))
    assert list(take(short, 1)[0].fields) == ["image", "label"]


SPARED = (
    Image("source", (8, 8), 1, stored=(HEIGHT, WIDTH)),
    Image("layer", (16, 16), 4, stored=(2 * HEIGHT, 2 * WIDTH)),
    Mask("mask", (8, 8), stored=(HEIGHT, WIDTH)),
    LabelMap("parts", (8, 8), classes=HEIGHT, stored=(HEIGHT, WIDTH)),
)


@pytest.mark.parametrize(("kind", "workers"), [("thread", 0), ("process", 1)])
def test_all_fields_of_a_sample_have_one_view(tmp_path: Path, kind: str, workers: int) -> None:
    # 8 of 12 rows and 8 of 16 columns are not one ratio of sides, but the same part of every field.
    stream = opened(make_fields(tmp_path), fields=SPARED, flip=True, worker_kind=kind, workers=workers)
    places, mirrored = set(), 0
    for batch in take(stream, 50):
        for row, key in enumerate(batch.keys):
            stored = expected(int(key))
            source = batch.fields["source"][row, 0].numpy()
            flip = source[0, 0] > source[0, -1]
            top, left = divmod(int(source[0, -1 if flip else 0]), 16)
            places.add((top, left))
            mirrored += flip
            for of in SPARED:
                scale = of.height // 8
                part = as_planes(stored[of.name], of)[
                    ..., scale * top : scale * (top + 8), scale * left : scale * (left + 8)
                ]
                assert (batch.fields[of.name][row].numpy() == (part[..., ::-1] if flip else part)).all(), of
    assert places == set(itertools.product(range(5), range(9))), "every place comes"
    assert 110 < mirrored < 190, "150 of 300 are expected, 8.7 is the standard deviation"


def test_views_and_rows_depend_on_the_position_only(folder: Path) -> None:
    how: dict[str, Any] = {"fields": SPARED, "flip": True}
    whole = rows(take(opened(folder, **how), 8))
    ranks = [rows(take(opened(folder, **how, workers=3), 8, rank=rank, world=2, micro_batches=2)) for rank in (0, 1)]
    later = rows(take(opened(folder, **how), 5, start=18))
    assert ranks[0] | ranks[1] == whole
    assert later == {position: row for position, row in whole.items() if position >= 18}


def test_a_larger_label_map_is_never_blended(tmp_path: Path) -> None:
    coarse = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 7
    fine = coarse.repeat(4, axis=0).repeat(4, axis=1)
    changed: Any = {n: {"parts.png": png(fine), "mask.png": png(255 * (fine > 3).astype(np.uint8))} for n in range(3)}
    made = make_fields(tmp_path, sizes=(3,), changed=changed)
    fields = (LabelMap("parts", (HEIGHT, WIDTH), classes=7), Mask("mask", (HEIGHT, WIDTH)))
    batch = take(opened(made, fields=fields), 1, batch_size=3)[0]
    assert (batch.fields["parts"].numpy() == coarse).all()
    assert (batch.fields["mask"][:, 0].numpy() == (coarse > 3)).all()


def test_a_part_of_a_batch_has_its_ragged_entries(folder: Path) -> None:
    batch = take(opened(folder, fields=(*FIELDS, POINTS)), 1, batch_size=9)[0]
    part = batch.part(slice(3, 7))
    assert list(part) == list(batch.fields)
    assert (part["code"] == batch.fields["code"][3:7]).all()
    index = part["places" + INDEX_SUFFIX]
    for row in range(4):
        assert (part["places"][index == row].numpy() == expected(int(batch.keys[3 + row]))["places"]).all()


NAN = np.array([0, np.nan, 1], "<f4").tobytes()
FAULTS = [
    ("mask.png", None, "has no field 'mask' (.mask.jpg or the like), only cls, source.png"),
    ("parts.png", png(np.full((HEIGHT, WIDTH), 12, np.uint8)), ".parts.png is unusable: holds the index 12, must be"),
    ("parts.png", png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), ".parts.png is unusable: has mode RGB; a label map has"),
    ("target.png", png(np.zeros((12, 12), np.uint8)), ".target.png is unusable: picture is 12x12 pixels, need 16x12"),
    ("layer.png", b"noise", ".layer.png is unusable: cannot identify image file"),
    ("code.f32", bytes(8), ".code.f32 is unusable: holds 8 bytes, needs 12: little-endian float32"),
    ("code.f32", bytes(16), ".code.f32 has 16 bytes; at most 12 are read"),
    ("code.f32", NAN, ".code.f32 is unusable: holds a number that is not finite"),
    ("places.f32", bytes(12), ".places.f32 is unusable: holds 12 bytes, needs at most 4 times 8"),
    ("places.f32", bytes(40), ".places.f32 has 40 bytes; at most 32 are read"),
    ("cls", b"7", ".cls is unusable: label is 7, must be below the number of classes, 3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "text"), FAULTS)
def test_errors_name_shard_key_and_field(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    made = make_fields(tmp_path, sizes=(5,), changed={2: {name: content}})
    stream = opened(made, fields=(*FIELDS, POINTS))
    with pytest.raises(ShardError, match=re.escape(f"train-000000.tar, sample 0002: {text}")) as caught:
        take(stream, 1, batch_size=5)
    assert caught.value.key == "0002"
    skipping = opened(made, fields=(*FIELDS, POINTS), on_bad_sample="skip", worker_kind="process", workers=1)
    (batch,) = take(skipping, 1, batch_size=5)
    assert len(batch.skipped) == 1
    assert text in batch.skipped[0]
    assert sorted(set(batch.keys)) == ["0000", "0001", "0003", "0004"]


def test_fields_that_do_not_fit_are_refused(folder: Path) -> None:
    for fields, text in (
        ((Image("face", 64),), r"has no field 'face', it has source, target, layer, mask, parts"),
        ((Image("source", 16),), r"pictures are 16x12, not 16x16 or 2, 4, 8"),
        ((Image("source", (HEIGHT, WIDTH)), Mask("source", (HEIGHT, WIDTH))), "each with its own name"),
        ((Points("a", 2), Vector("a_index", 2)), "each with its own name"),
        ((SPARED[0], Mask("mask", (HEIGHT, WIDTH))), "'source' and 'mask' are cropped to different parts"),
        ((SPARED[0], POINTS), "'places' cannot be mirrored or cropped"),
        ((Label("label", 7),), "has 3 classes, 7 are asked for"),
    ):
        with pytest.raises(DataError, match=text):
            opened(folder, fields=fields)
    with pytest.raises(DataError, match="'places' cannot be mirrored"):
        opened(folder, fields=(POINTS,), flip=True)
    for wrong, text in (
        (lambda: Image("Face", 64), "'Face': a name has lower-case"),
        (lambda: Image("face", (0, 3)), r"size is \(0, 3\), must be a side"),
        (lambda: Image("face", 64, stored=60), "stored is 60, smaller than size, 64"),
        (lambda: Image("face", 64, 2), "channels is 2, must be 1"),
    ):
        with pytest.raises(DataError, match=text):
            wrong()


@pytest.mark.parametrize("of", [*FIELDS, POINTS], ids=lambda one: one.name)
def test_examples_and_tensors_are_those_of_a_stream(folder: Path, of: Field) -> None:
    batch = take(opened(folder, fields=(of,)), 1)[0]
    example, again, other = of.example(6, 1), of.example(6, 1), of.example(6, 2)
    assert list(example) == list(batch.fields)
    assert all(torch.equal(example[name], again[name]) for name in example)
    assert not torch.equal(example[of.name], other[of.name])
    for name, values in batch.fields.items():
        assert (example[name].dtype, example[name].shape[1:]) == (values.dtype, values.shape[1:]), name
    tensors = of.to_tensor(batch.fields[of.name], device=torch.device("cpu"), dtype=torch.float64)
    if isinstance(of, Image):
        assert torch.equal(tensors, batch.fields[of.name].double() / 127.5 - 1)
    else:
        assert tensors.dtype == (torch.int64 if isinstance(of, Label | LabelMap) else torch.float64)
        assert torch.equal(tensors, batch.fields[of.name].to(tensors.dtype))


@dataclasses.dataclass(frozen=True)
class Inverted(Image):
    """A field of the user's own: another range on the device."""

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        return -super().to_tensor(rows, device=device, dtype=dtype)


def test_a_field_of_the_users_own_is_loaded_by_threads(folder: Path) -> None:
    own = Inverted("source", (HEIGHT, WIDTH), 1)
    batch = take(opened(folder, fields=(own,), worker_kind="process", workers=1), 1)[0]
    assert (batch.fields["source"][0, 0].numpy() == expected(0)["source"]).all()


def test_the_manifest_of_fields_is_kept_and_shown(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert [entry.name for entry in manifest.fields] == ["source", "target", "layer", "mask", "parts"]
    (report,) = report_on(str(folder))
    assert report["fields"][3] == {"name": "mask", "kind": "mask", "height": HEIGHT, "width": WIDTH, "channels": 1}
    assert report["decoded_bytes"] == 13 * HEIGHT * WIDTH * (1 + 3 + 4 * 4 + 1 + 1)
    assert find_faults(str(folder)).faults == []


def test_verify_names_the_field(tmp_path: Path) -> None:
    made = make_fields(tmp_path, sizes=(4,), changed={1: {"mask.png": b"noise"}})
    faults = find_faults(str(made)).faults
    assert len(faults) == 1
    assert "train-000000.tar, sample 0001: .mask.png is unusable" in faults[0]
