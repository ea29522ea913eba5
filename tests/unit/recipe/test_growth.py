"""Growth on the clock: segments, alpha, what is left to train, and what is refused."""

from __future__ import annotations

import pytest

from framework import Growth, Phase
from framework.recipe.description import describe
from framework.recipe.growth import remaining, segment_at, segments_from
from framework.utils.errors import FrameworkError
from tests.recipes.tiny_progan import RECIPE

GROWTH = Growth(
    phases=(
        Phase(resolution=4, stable_images=100),
        Phase(resolution=8, fade_images=90, stable_images=60, batch_size=30),
        Phase(resolution=16, fade_images=60, stable_images=10, batch_size=20, lr_factor=2.0),
    )
)


def test_segments_end_after_the_first_whole_step_that_has_seen_their_images() -> None:
    segments = GROWTH.segments(batch_size=16)
    assert [(s.resolution, s.fading, s.start, s.end, s.batch_size) for s in segments] == [
        (4, False, 0, 112, 16),  # 7 steps of 16 for 100 images
        (8, True, 112, 202, 30),
        (8, False, 202, 262, 30),
        (16, True, 262, 322, 20),
        (16, False, 322, 342, 20),
    ]
    assert [s.lr_factor for s in segments] == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert GROWTH.segments(batch_size=16, critic_steps=2)[0].end == 128
    assert GROWTH.images == 320


def test_alpha_is_a_function_of_the_clock() -> None:
    segments = GROWTH.segments(batch_size=16)
    assert [segments[1].alpha(images) for images in (112, 157, 202, 400)] == [0.0, 0.5, 1.0, 1.0]
    assert segments[2].alpha(202) == 1.0


def test_a_boundary_belongs_to_the_next_segment_and_the_last_one_has_no_end() -> None:
    segments = GROWTH.segments(batch_size=16)
    assert segment_at(segments, 111) is segments[0]
    assert segment_at(segments, 112) is segments[1]
    assert segment_at(segments, 10**9) is segments[-1]


def test_what_is_left_to_train() -> None:
    segments = GROWTH.segments(batch_size=16)

    def left(start: int, end: int) -> list[tuple[int, int]]:
        return [(segments.index(s), stop) for s, stop in remaining(segments, start=start, end=end)]

    assert left(0, 342) == [(0, 112), (1, 202), (2, 262), (3, 322), (4, 342)]
    assert left(150, 300) == [(1, 202), (2, 262), (3, 300)]
    assert left(202, 1000) == [(2, 262), (3, 322), (4, 1000)]
    assert left(342, 342) == []


def test_the_description_in_a_checkpoint_gives_the_same_segments() -> None:
    assert segments_from(describe(RECIPE)) == RECIPE.segments()
    assert segments_from({"growth": None}) == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Growth(phases=()), "at least one Phase"),
        (lambda: Growth(phases=(Phase(resolution=4, fade_images=1, stable_images=1),)), "nothing to fade in from"),
        (
            lambda: Growth(phases=(Phase(resolution=4, stable_images=1), Phase(resolution=16, stable_images=1))),
            "16 px follows 4 px",
        ),
        (lambda: Phase(resolution=4, stable_images=0), "Phase 4px: has no images"),
        (lambda: Phase(resolution=4, stable_images=1, lr_factor=0.0), r"lr_factor=0\.0"),
    ],
)
def test_what_cannot_work_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FrameworkError, match=message):
        make()
