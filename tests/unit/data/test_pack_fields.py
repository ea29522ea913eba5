"""`framework pack` of samples of several pictures: folders paired by name, aligned pictures, masks and label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image as Pillow

from framework.commands import data as data_command
from framework.commands.pack import pack as pack_command
from framework.data.errors import DataError
from framework.data.fields import Image, LabelMap, Mask
from framework.data.inspection import find_faults
from framework.data.manifest import load_manifest
from framework.data.pack import BadImagesError
from framework.data.packing.options import PackOptions
from framework.data.readers import SourceError
from framework.data.stream import open_stream
from framework.recipe import Shards
from tests.helpers.pictures import hashes, pack_quietly
from tests.unit.data.stream_helpers import picture


def save(path: Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Pillow.fromarray(pixels)
    if palette:
        image.putpalette([value for index in range(256) for value in (index * 7 % 256, index, 9)])
    image.save(path)


def make_pairs(folder: Path, *, count: int = 6, height: int = 16, width: int = 24) -> Path:
    """Colour pictures in `A`, their grey versions in `B`, masks, and label maps with a palette."""
    for number in range(count):
        pixels = np.ascontiguousarray(picture(number, 24)[:height, :width])
        save(folder / "A" / f"{number}.png", pixels)
        save(folder / "B" / "deep" / f"{number}.png", pixels)  # other folders are not looked into
        save(folder / "grey" / f"{number}.bmp", pixels[..., 1])
        save(folder / "mask" / f"{number}.png", np.where(pixels[..., 0] > 99, 255, 0).astype(np.uint8))
        save(folder / "parts" / f"{number}.png", pixels[..., 2] % 5, palette=True)
    return folder


PARTS: dict[str, Any] = {
    "fields": ("image", "grey", "mask", "parts"),
    "folders": ("A", "grey", "mask", "parts"),
    "masks": ("mask",),
    "label_maps": ("parts",),
}


def test_folders_are_paired_by_name_and_read_again(tmp_path: Path) -> None:
    source = make_pairs(tmp_path / "pairs")
    made = pack_quietly(source, tmp_path / "out", **PARTS)
    assert (made.count, made.classes, made.source["kind"]) == (6, 0, "paired folders")
    assert [(e.name, e.kind, e.height, e.width, e.channels) for e in load_manifest(tmp_path / "out").fields] == [
        ("image", "image", 16, 24, 3),
        ("grey", "image", 16, 24, 1),
        ("mask", "mask", 16, 24, 1),
        ("parts", "label map", 16, 24, 1),
    ]
    assert find_faults(str(tmp_path / "out")).faults == []
    size = (16, 24)
    fields = (Image("image", size), Image("grey", size, 1), Mask("mask", size), LabelMap("parts", size, classes=5))
    assert Shards(str(tmp_path / "out"), fields=fields).derived()["grey_channels"] == 1
    stored = {picture(number, 24)[:16].tobytes(): picture(number, 24)[:16] for number in range(6)}
    with open_stream(tmp_path / "out", fields=fields, workers=0).batches(0, batch_size=6, stop=6) as batches:
        (batch,) = batches
    for row in range(6):
        pixels = batch.fields["image"][row].permute(1, 2, 0).numpy()
        known = stored.pop(pixels.tobytes())
        assert (batch.fields["grey"][row, 0].numpy() == known[..., 1]).all()
        assert (batch.fields["mask"][row, 0].numpy() == (known[..., 0] > 99)).all()
        assert (batch.fields["parts"][row].numpy() == known[..., 2] % 5).all()


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    source = make_pairs(tmp_path / "pairs")
    for number, workers in enumerate((1, 3)):
        pack_quietly(source, tmp_path / f"out{number}", workers=workers, **PARTS)
    assert hashes(tmp_path / "out0") == hashes(tmp_path / "out1")


def test_masks_and_label_maps_are_resized_without_blending(tmp_path: Path) -> None:
    source = make_pairs(tmp_path / "pairs", height=24)
    made = pack_quietly(source, tmp_path / "out", resolution=(6, 10), seed=None, **PARTS)
    assert made.fields[0].height == 10
    for folder, side in (("r006", 6), ("r010", 10)):
        fields = (Mask("mask", side), LabelMap("parts", side, classes=5))
        with open_stream(tmp_path / "out" / folder, fields=fields, workers=0).batches(0, batch_size=6) as batches:
            batch = next(batches)
        for row, key in enumerate(batch.keys):
            for name, sides in (("mask", (10, side)), ("parts", (10, side))):
                image = Pillow.open(source / name / f"{int(key)}.png")
                pixels = Pillow.fromarray(np.asarray(image))  # indices, and not the palette's colours
                for each in sides:
                    pixels = pixels.resize((each, each), Pillow.Resampling.NEAREST)
                nearest = np.asarray(pixels) // (255 if name == "mask" else 1)
                assert (batch.fields[name][row].squeeze(0).numpy() == nearest).all()


def test_grey_in_a_mask_is_white_from_the_middle_on(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(tmp_path / "pairs" / "mask" / "0.png", levels)
    for masks in ((), ("mask",)):  # by the reader, of a file that was packed as a picture, and by the packer
        out = tmp_path / f"out{len(masks)}"
        pack_quietly(tmp_path / "pairs", out, fields=("mask",), masks=masks)
        for of, expected in ((Mask("mask", 16), levels >= 128), (Image("mask", 16, 1), (levels >= 128) * 255)):
            if isinstance(of, Image) and not masks:
                expected = levels
            with open_stream(out, fields=(of,), workers=0).batches(0, batch_size=1) as batches:
                assert (next(batches).fields["mask"][0, 0].numpy() == expected).all()


def test_aligned_pictures_are_cut(tmp_path: Path) -> None:
    for number in range(5):
        left, right = picture(number, 16), picture(number + 100, 16)
        save(tmp_path / "ab" / ("even" if number % 2 == 0 else "odd") / f"{number}.png", np.hstack([left, right]))
    made = pack_quietly(tmp_path / "ab", tmp_path / "out", fields=("source", "target"), aligned=True)
    assert (made.count, made.class_names, made.resolution) == (5, ("even", "odd"), 16)
    fields = (Image("source", 16), Image("target", 16))
    with open_stream(tmp_path / "out", fields=fields, workers=0).batches(0, batch_size=5, stop=5) as batches:
        (batch,) = batches
    found = {
        a.numpy().tobytes(): b.numpy() for a, b in zip(batch.fields["source"], batch.fields["target"], strict=True)
    }
    for number in range(5):
        target = found[picture(number, 16).transpose(2, 0, 1).tobytes()]
        assert (target == picture(number + 100, 16).transpose(2, 0, 1)).all()


def test_pairs_that_do_not_match_are_named(tmp_path: Path) -> None:
    source = make_pairs(tmp_path / "pairs", count=3)
    two: dict[str, Any] = {"fields": ("a", "b"), "folders": ("A", "mask")}
    save(source / "mask" / "1.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(BadImagesError, match=r"A/1.png: field 'b': is 16x16, a is 24x16; need one size"):
        pack_quietly(source, tmp_path / "out", **two)
    assert pack_quietly(source, tmp_path / "skipped", skip_bad=True, **two).count == 2
    (source / "mask" / "2.png").unlink()
    with pytest.raises(SourceError, match=r"A/2.png: has no partner in .*/mask; add one, or remove it"):
        pack_quietly(source, tmp_path / "out", **two)
    (source / "A" / "2.png").unlink()
    save(source / "mask" / "9.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(SourceError, match=r"mask/9.png: has no partner in .*/A; add one"):
        pack_quietly(source, tmp_path / "out", **two)
    save(source / "mask" / "9.bmp", np.zeros((16, 16), np.uint8))
    with pytest.raises(SourceError, match=r"mask: 9.bmp and 9.png have one name"):
        pack_quietly(source, tmp_path / "out", **two)
    with pytest.raises(SourceError, match=r"pairs/c: no such folder"):
        pack_quietly(source, tmp_path / "out", fields=("c",))
    save(tmp_path / "odd" / "x.png", np.zeros((4, 9), np.uint8))
    with pytest.raises(SourceError, match=r"x.png: is 9x4, which cannot be cut into 2 parts"):
        pack_quietly(tmp_path / "odd", tmp_path / "out", fields=("a", "b"), aligned=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fields": ("A",)}, "fields is 'A', must be lower-case"),
        ({"fields": ("a", "a")}, "repeats"),
        ({"fields": ("a", "b"), "folders": ("A",)}, "must be one for each field"),
        ({"fields": ("a",), "aligned": True}, "needs two fields"),
        ({"fields": ("a", "b"), "masks": ("c",)}, "masks is 'c', must be one of the fields"),
        ({"fields": ("a", "b"), "masks": ("a",), "label_maps": ("a",)}, "are label_maps, too"),
        ({"fields": ("a", "b"), "aligned": True, "label_maps": ("a",)}, "cannot be parts of others"),
    ],
)
def test_impossible_fields_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        PackOptions(**options)


def test_options_without_fields_identify_a_data_set_as_before() -> None:
    names = {"fields", "folders", "aligned", "masks", "label_maps"}
    assert not names & PackOptions().request().keys()
    assert (
        names - {"folders", "aligned"}
        <= PackOptions(fields=("a", "b"), masks=("a",), label_maps=("b",)).request().keys()
    )


def test_the_commands_say_what_a_sample_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_pairs(tmp_path / "pairs")
    words = [source, tmp_path / "out", "--fields", "image", "mask", "--folders", "A", "mask", "--masks", "mask"]
    tyro.cli(pack_command, args=[*map(str, words), "--no-progress"])
    assert "out: 6 samples of image 24x16x3, mask 24x16x1, 0 classes" in capsys.readouterr().out
    data_command.inspect(str(tmp_path / "out"))
    assert "image 24x16x3, mask 24x16x1, png" in capsys.readouterr().out
    assert data_command.verify(str(tmp_path / "out")) == 0
