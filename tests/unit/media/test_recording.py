"""The numbers of a recorded game: errors stay within what is said, and nothing damaged passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from framework.media.recording import (
    REACH,
    Frame,
    gradients_from_text,
    gradients_to_text,
    logits_from_text,
    logits_to_text,
    points_from_text,
    points_to_text,
)
from framework.utils.errors import FrameworkError
from tests.helpers.games import CENTRE, HALF, frame, scene

RANDOM = np.random.default_rng(0)


def test_points_lose_half_a_step() -> None:
    points = np.asarray(CENTRE) + RANDOM.uniform(-REACH * HALF, REACH * HALF, (1000, 2))
    found = points_from_text(points_to_text(points, CENTRE, HALF), scene())
    step = REACH * HALF / 32767
    assert np.abs(found - points).max() <= step / 2 * (1 + 1e-9)
    assert np.abs(found - points).max() > step / 4, "the error is as large as is said"
    assert step / 2 <= 0.62e-4 * 2 * HALF, "0.006 per cent of the side"


def test_points_far_away_lie_on_the_edge_and_those_that_are_none_are_none() -> None:
    points = [[1e30, CENTRE[1]], [CENTRE[0], -1e30], [np.nan, 0.0], [0.0, np.inf]]
    found = points_from_text(points_to_text(points, CENTRE, HALF), scene())
    assert found[0] == pytest.approx([CENTRE[0] + REACH * HALF, CENTRE[1]])
    assert found[1] == pytest.approx([CENTRE[0], CENTRE[1] - REACH * HALF])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_logits_lose_a_508th_of_their_range(scale: float) -> None:
    logits = RANDOM.normal(3.0, scale, (5, 5))
    text, low, high = logits_to_text(logits)
    found = logits_from_text(replace(frame(0), surface=text, low=low, high=high), scene())
    # The ends are written with 7 digits.
    rounding = 1e-6 * np.abs(logits).max()
    assert np.abs(found - logits).max() <= (high - low) / 508 + rounding
    assert np.abs(found - logits).max() > (high - low) / 1016 - rounding


def test_logits_that_are_no_numbers_or_all_the_same() -> None:
    text, low, high = logits_to_text([[1.0, np.nan], [np.inf, 3.0]])
    found = logits_from_text(Frame(**{**vars(frame(0)), "surface": text, "low": low, "high": high}), replace_side(2))
    assert (low, high) == (1.0, 3.0)
    np.testing.assert_array_equal(found, [[1.0, np.nan], [np.nan, 3.0]])
    assert logits_to_text(np.full((2, 2), np.nan))[1:] == (0.0, 0.0)
    text, low, high = logits_to_text(np.full((2, 2), 0.1))
    assert (low, high) == (0.1, 0.1)


def replace_side(side: int):  # type: ignore[no-untyped-def]
    return replace(scene(), side=side)


def test_gradients_lose_less_than_a_degree_and_a_tenth_of_their_length() -> None:
    lengths, angles = 10 ** RANDOM.uniform(-9, 9, 2000), RANDOM.uniform(-np.pi, np.pi, 2000)
    gradients = np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)
    found = gradients_from_text(gradients_to_text(gradients))
    ratio = np.hypot(*found.T) / lengths
    turn = np.abs(np.angle(np.exp(1j * (np.arctan2(found[:, 1], found[:, 0]) - angles))))
    assert max(ratio.max(), 1 / ratio.min()) <= 2 ** (1 / 8) * (1 + 1e-9), "half of a quarter of an octave"
    assert 2 ** (1 / 8) <= 1.091
    assert turn.max() <= np.pi / 256 * (1 + 1e-9)
    assert np.pi / 256 <= np.radians(0.71)
    np.testing.assert_array_equal(gradients_from_text(gradients_to_text([[0.0, 0.0]])), [[0.0, 0.0]])
    assert np.isnan(gradients_from_text(gradients_to_text([[np.nan, 0.0]]))).all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fakes": "AAAA"}, "fakes must be 16 bytes"),
        ({"surface": "x" * 36}, "surface must be 25 bytes"),
        ({"arrows": "<script>"}, "arrows must be 4 bytes"),
        ({"grid": ""}, "grid must be 24 bytes"),
        ({"low": float("nan")}, "finite"),
        ({"high": -1e9}, "finite"),
        ({"hits": (1,)}, "count for each mode"),
        ({"hits": (1, 5)}, "count for each mode"),
    ],
)
def test_a_frame_that_is_none_is_refused(change: dict[str, object], why: str) -> None:
    frame(0).check(scene())
    with pytest.raises(FrameworkError, match=why):
        replace(frame(0), **change).check(scene())


@pytest.mark.parametrize(
    "change",
    [{"half": 0.0}, {"half": float("inf")}, {"side": 0}, {"fakes": 10**6}, {"arrows": 5}, {"reals": "AA"},
     {"modes": ((float("nan"), 0.0),)}, {"modes": ((0.0, 0.0),) * 401}],
)  # fmt: skip
def test_a_scene_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FrameworkError, match="the recording of a game"):
        replace(scene(), **change)
