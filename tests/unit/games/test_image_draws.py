"""The random numbers of a micro-batch: the same for a row however the batch is cut, and drawn together at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from framework.augment.ada import Ada
from framework.games.microbatch import MOST_DRAWN_ON_CPU, BatchPartition, ImageDraws
from framework.networks.draw import Request, drawn_apart, drawn_together
from framework.runtime.seeding import VERSIONS, Draws, DrawsVersion
from framework.runtime.splitmix import Stream
from tests.helpers.draws import Given

REQUESTS = {
    "flip": Request(kind="integers", high=2),
    "shift": Request(kind="normal", shape=(3,)),
    "flip/picked": Request(kind="uniform"),
    "crop": Request(kind="integers", high=1_000, shape=(2,)),
    "scale": Request(kind="normal"),
    "centre": Request(kind="uniform", shape=(2, 2)),
    "turn": Request(kind="normal", shape=(2, 3)),
}


def image_draws(version: DrawsVersion, rows: slice = slice(0, 13), **changes: Any) -> ImageDraws:
    common: dict[str, Any] = {"batch_size": 13, "device": torch.device("cpu"), "dtype": torch.float32}
    draws = Draws(seed=4, images_seen=128, version=version)
    return ImageDraws(draws=draws, purpose="generator", rows=rows, **common | changes)


def everything(draw: ImageDraws) -> dict[str, Tensor]:
    """Numbers of every kind, small and large, apart and together."""
    return {
        "z": draw.normal("z", 7),
        "noise": draw.normal("noise", 3, 2, MOST_DRAWN_ON_CPU // 4),
        "mix": draw.uniform("mix"),
        "layer": draw.integers("layer", 14),
        "seeds": draw.integers("seeds", 1 << 62),
        "below": draw.under("penalty").uniform("mix", 2),
        **draw.together("transforms", REQUESTS),
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_every_cut_of_the_batch_has_the_same_numbers(version: DrawsVersion, world: int, micro_batches: int) -> None:
    whole = everything(image_draws(version))
    for rank in range(world):
        for part in BatchPartition(batch_size=13, micro_batches=micro_batches, rank=rank, world=world).slices():
            for name, values in everything(image_draws(version, part.rows)).items():
                assert torch.equal(values, whole[name][part.rows]), name


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_drawn_together_is_what_was_requested(version: DrawsVersion) -> None:
    draw = image_draws(version, slice(0, 400), batch_size=400, dtype=torch.float64)
    values = draw.together("transforms", REQUESTS)
    assert list(values) == list(REQUESTS)
    for name, request in REQUESTS.items():
        value = values[name]
        assert value.shape == (400, *request.shape), name
        assert value.dtype == (torch.int64 if request.kind == "integers" else torch.float64)
        lowest, highest = {"integers": (0, request.high - 1), "uniform": (0, 1), "normal": (-6.4, 6.4)}[request.kind]
        assert lowest <= value.min()
        assert value.max() <= highest
        n = value.numel()
        variance = {"integers": (request.high**2 - 1) / 12, "uniform": 1 / 12, "normal": 1.0}[request.kind]
        middle = 0.0 if request.kind == "normal" else highest / 2
        assert abs(float(value.double().mean()) - middle) < 5 * math.sqrt(variance / n), name
    numbers = torch.cat(
        [v.double().view(400, -1) for name, v in values.items() if REQUESTS[name].kind != "integers"], 1
    )
    by_chance = 10  # equal ones that are expected among 6,000 numbers of 24 bits: about 1; of two equal requests: 400
    assert len(numbers.unique()) >= numbers.numel() - by_chance, "two requests must not get the same numbers"


def test_version_1_draws_them_by_their_names() -> None:
    """A run that began with it goes on with the same numbers."""
    draw = image_draws(1)
    apart, together = drawn_apart(draw, REQUESTS), draw.together("transforms", REQUESTS)
    assert torch.equal(together["shift"], draw.normal("shift", 3))
    assert torch.equal(together["centre"], draw.uniform("centre", 2, 2))
    assert torch.equal(together["crop"], draw.integers("crop", 1_000, 2))
    assert all(torch.equal(apart[name], together[name]) for name in REQUESTS)


def test_a_source_that_draws_one_thing_at_a_time_is_asked_for_each() -> None:
    given = {"flip": torch.tensor([0, 1]), "scale": torch.tensor([0.5, -0.5])}
    requests = {name: REQUESTS[name] for name in given}
    values = drawn_together(Given(given), "transforms", requests)
    assert all(torch.equal(values[name], given[name]) for name in given)


def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The words per image of every hash that is computed from now on."""
    seen, words = [], Stream.words

    def counted(self: Stream, rows: range, per_row: int, *, device: torch.device) -> Tensor:
        seen.append(per_row)
        return words(self, rows, per_row, device=device)

    monkeypatch.setattr(Stream, "words", counted)
    return seen


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        # Of an image 13 gates and 5 more uniform numbers, 3 whole ones, and 7 normal ones from 4 words.
        ("bgc", [18 + 3 + 4]),
        # 8 more uniform numbers, and 5 more normal ones; noise of the pixels, two from a word.
        ("bgcfnc", [26 + 3 + 6, 3 * 24 * 24 // 2]),
    ],
)
def test_ada_draws_once_a_call(preset: str, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = hashes(monkeypatch)
    images = torch.zeros(13, 3, 24, 24)
    Ada(preset=preset)(images, strength=0.5, draw=image_draws(2))
    print(preset, seen)
    assert seen == expected
