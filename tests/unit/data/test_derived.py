"""Fields that are computed on the device: known answers, and the same numbers for any slicing of the batch."""

from __future__ import annotations

import pytest
import torch

from framework.data.derived import Edges, Holes, LowResolution, OneHot, with_derived
from framework.data.errors import DataError
from framework.games.microbatch import ImageDraws
from framework.runtime.seeding import Draws
from framework.utils.errors import FrameworkError

COUNT = 300


def draw(rows: slice = slice(0, COUNT)) -> ImageDraws:
    draws = Draws(seed=1, images_seen=64)
    cpu = torch.device("cpu")
    return ImageDraws(draws=draws, purpose="test", batch_size=COUNT, rows=rows, device=cpu, dtype=torch.float32)


def test_a_low_resolution_copy_is_the_mean_of_squares() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    small = LowResolution("small", "image", factor=2).tensors({"image": picture}, draw())["small"]
    assert small.tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    with pytest.raises(DataError, match=r"'small': 4x4 pixels are no multiple of 3"):
        LowResolution("small", "image", factor=3).tensors({"image": picture}, draw())


def test_edges_are_as_strong_as_the_step_is_high() -> None:
    picture = torch.full((1, 3, 6, 8), -1.0)
    picture[..., 4:] = 1.0
    strength = Edges("edges", "image").tensors({"image": picture}, draw())["edges"]
    assert strength.shape == (1, 1, 6, 8)
    assert strength[0, 0, 2].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert torch.equal(strength, strength[:, :, :1].expand_as(strength)), "the border is no edge"
    half = Edges("edges", "image").tensors({"image": picture.mT / 2}, draw())["edges"]
    assert half[0, 0, :, 2].tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0]
    both = torch.cat([picture, picture / 2])
    cut = Edges("edges", "image", threshold=0.75).tensors({"image": both}, draw())["edges"]
    assert cut.sum((1, 2, 3)).tolist() == [12.0, 0.0]


def test_one_hot_has_a_channel_per_class() -> None:
    labels = torch.tensor([2, 0])
    assert OneHot("hot", "label", 3).tensors({"label": labels}, draw())["hot"].tolist() == [[0, 0, 1], [1, 0, 0]]
    maps = torch.tensor([[[0, 1], [1, 2]]])
    hot = OneHot("hot", "parts", 3).tensors({"parts": maps}, draw())["hot"]
    assert hot.shape == (1, 3, 2, 2)
    assert torch.equal(hot.argmax(1), maps)
    assert (hot.sum(1) == 1).all()


def test_holes_are_rectangles_of_the_size_asked_for() -> None:
    picture = torch.zeros(COUNT, 3, 32, 40)
    mask = Holes("holes", "image", least_side=0.25, most_side=0.5).tensors({"image": picture}, draw())["holes"]
    assert mask.shape == (COUNT, 1, 32, 40)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    heights, widths = mask.amax(3).sum(2)[:, 0], mask.amax(2).sum(2)[:, 0]
    assert torch.equal(mask.sum((1, 2, 3)), heights * widths), "one rectangle each"
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (8, 16, 10, 20)
    missing = mask.sum((0, 1)) > 0
    assert missing.any(0).all(), "every column is missing somewhere"
    assert missing.any(1).all(), "every row is missing somewhere"


def test_holes_are_functions_of_the_sample_and_its_place() -> None:
    picture, holes = torch.zeros(COUNT, 1, 16, 16), Holes("holes", "image", count=3)
    whole = holes.tensors({"image": picture}, draw())["holes"]
    parts = [holes.tensors({"image": picture[part]}, draw(part))["holes"] for part in (slice(0, 7), slice(7, COUNT))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(Holes("other", "image", count=3).tensors({"image": picture}, draw())["other"], whole)


def test_fields_are_derived_in_order() -> None:
    fields = {"image": torch.rand(COUNT, 3, 8, 8)}
    derive = (LowResolution("half", "image", 2), LowResolution("quarter", "half", 2))
    found = with_derived(fields, derive, draw())
    assert {name: values.shape[-1] for name, values in found.items()} == {"image": 8, "half": 4, "quarter": 2}
    with pytest.raises(DataError, match="'quarter' is derived from 'half'; there are image"):
        with_derived(fields, derive[1:], draw())


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(FrameworkError, match="factor=1 must be at least 2"):
        LowResolution("small", "image", factor=1)
    with pytest.raises(DataError, match=r"most_side=0.2 is below least_side=0.25"):
        Holes("holes", "image", most_side=0.2)
