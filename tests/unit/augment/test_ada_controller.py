"""The controller of ADA on simulated discriminators."""

import math

import pytest

from framework.augment.ada import Ada


def play(ada: Ada, *, steps: int, batch_size: int = 64, overfit: float) -> list[float]:
    """p after each adjustment, against a discriminator whose mean sign falls with p: `overfit - p`."""
    p, course = 0.0, []
    for _ in range(steps // ada.every):
        p = ada.adjusted(p, sign=max(-1.0, min(1.0, overfit - p)), images=ada.every * batch_size)
        course.append(p)
    return course


def test_p_settles_where_the_mean_sign_is_on_target() -> None:
    ada = Ada(target=0.6, images=10_000)
    course = play(ada, steps=2_000, overfit=0.95)
    step = 4 * 64 / 10_000
    assert course[0] == step
    assert all(abs(p - 0.35) <= step for p in course[-100:])


def test_p_rises_from_zero_to_one_in_so_many_images() -> None:
    ada = Ada(images=50_000, every=5)
    course = play(ada, steps=50_000 // 50, batch_size=50, overfit=9.0)
    assert course[-1] == pytest.approx(1.0, abs=1e-9)


def test_p_is_clamped_at_zero_and_not_above() -> None:
    ada = Ada(images=1_000)
    assert ada.adjusted(0.01, sign=0.2, images=500) == 0.0
    assert ada.adjusted(0.9, sign=0.7, images=500) == 1.4


def test_p_stays_on_the_target_and_without_a_signal() -> None:
    ada = Ada(target=0.5)
    assert ada.adjusted(0.3, sign=0.5, images=1_000) == 0.3
    assert ada.adjusted(0.3, sign=math.nan, images=1_000) == 0.3
