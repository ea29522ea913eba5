"""Stacked pictures: three orders of one set on one clock, the same for any rank and start, labels of three digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from framework.data.errors import DataError
from framework.data.fields import Image, Label, Mask, fields_of
from framework.data.stacked import Stacked, StackedStream
from framework.data.stream import open_stream
from framework.recipe import Shards
from framework.sampling.stored import StackedSamples
from framework.utils.errors import RecipeError
from tests.unit.data.stream_helpers import destroy_picture, make_set, picture
from tests.unit.data.test_several_sources import rows, take

COUNT, CLASSES = 37, 5


def source(place: Path, *, classes: int = CLASSES, **options: Any) -> Stacked:
    return Stacked(of=Shards(str(place), resolution=32, channels=1, classes=classes, **options))


def opened(place: Path, *, seed: int = 4, **options: Any) -> StackedStream:
    told = source(place, **options)

    def stream(seed: int) -> Any:
        return open_stream(place, fields=fields_of(told.of), seed=seed, worker_kind="thread", channels_last=True)

    return StackedStream(told, stream, seed=seed)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_set(tmp_path / "set", sizes=(20, 17), channels=1, classes=CLASSES)


def test_a_sample_is_a_picture_of_three_channels_and_a_label_of_three_digits(place: Path) -> None:
    stacked = source(place)
    assert stacked.fields == (Image("image", 32, 3), Label("label", CLASSES**3))
    assert stacked.derived() == {"resolution": 32, "channels": 3, "classes": 125}
    assert source(place, classes=0).fields == (Image("image", 32, 3),)
    for batch in take(opened(place), 4):
        for row, key in enumerate(batch.keys):
            numbers = [int(one) for one in key.split(" ")]
            expected = np.stack([picture(number, channels=1)[:, :, 0] for number in numbers])
            assert (batch.fields["image"][row].numpy() == expected).all()
            red, green, blue = (number % CLASSES for number in numbers)
            assert batch.fields["label"][row] == 25 * red + 5 * green + blue
        assert batch.fields["image"].dtype == torch.uint8
        assert batch.fields["label"].dtype == torch.int64


def test_every_picture_comes_once_an_epoch_in_every_channel(place: Path) -> None:
    keys = [key.split(" ") for batch in take(opened(place), 19) for key in batch.keys]
    for channel in range(3):
        found = [key[channel] for key in keys]
        epochs = [found[at : at + COUNT] for at in range(0, 5 * COUNT, COUNT)]
        assert all(sorted(epoch) == [f"{n:09d}" for n in range(COUNT)] for epoch in epochs)
    same = sum(key[0] == key[1] for key in keys)
    assert same < 20, "the channels have orders of their own: about 6 of 228 pairs are equal"


def test_it_is_the_same_for_any_rank_and_start(place: Path) -> None:
    whole = rows(take(opened(place), 8))
    ranks = [rows(take(opened(place), 8, rank=rank, world=3, micro_batches=2)) for rank in range(3)]
    assert ranks[0] | ranks[1] | ranks[2] == whole
    assert rows(take(opened(place), 3, start=60)) == {p: row for p, row in whole.items() if p >= 60}
    assert rows(take(opened(place, seed=5), 8)) != whole


def test_it_tells_what_it_reads(place: Path) -> None:
    stream, grey = opened(place), open_stream(place, resolution=32, channels=1, workers=0)
    told = stream.describe()
    assert (told["channels"], told["classes"], told["stacked"], told["count"]) == (3, 125, 3, COUNT)
    assert told["fingerprint"] == stream.fingerprint != grey.fingerprint
    assert (len(stream.class_names), stream.class_names[26]) == (125, "class 1 / class 0 / class 1")
    assert set(stream.shards_at(list(range(COUNT)))) == {"train-000000.tar", "train-000001.tar"}


def test_stored_samples_are_the_first_epoch_over_and_over(place: Path) -> None:
    samples = StackedSamples(str(place), source(place))
    first = samples.rows(range(COUNT))
    again = samples.rows(range(COUNT - 3, COUNT + 5))
    for name, values in first.items():
        assert torch.equal(again[name], torch.cat([values[-3:], values[:5]]))
    assert samples.describe()["stacked"] == 3


def test_an_error_of_one_channel_ends_all(place: Path) -> None:
    key = destroy_picture(place / "train-000000.tar")
    with opened(place).batches(0, batch_size=COUNT) as batches:
        with pytest.raises(DataError, match=f"sample {key}"):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"resolution": 8}, "its pictures have 3 channels; stack grey ones"),
        ({"resolution": 8, "channels": 1, "classes": 101}, "101 classes have more than 1,000,000 combinations"),
        ({"fields": (Image("a", 8, 1), Image("b", 8, 1))}, "has the fields a, b; stack sets of one picture"),
        ({"fields": (Image("a", 8, 1), Mask("b", 8))}, "has the fields a, b; stack sets of one picture"),
        ({"fields": (Label("a", 2),)}, "has the fields a; stack sets of one picture"),
    ],
)
def test_what_cannot_be_stacked_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        Stacked(of=Shards("x", **options))


def test_only_shards_are_stacked() -> None:
    with pytest.raises(RecipeError, match="Stacked: of="):
        Stacked(of="data/mnist")  # type: ignore[arg-type]
