"""States change when several observations in a row agree, heal likewise, and survive a checkpoint."""

from __future__ import annotations

import dataclasses
import json

import pytest

from framework.sentinels import SENTINELS, Health, Sentinel, SentinelStates
from framework.utils.errors import FrameworkError

LOUD = Sentinel(signal="loud", warn=10, failing=100, ticks=3, reason="it is {value:.0f}", remedy="turn it down")
QUIET = Sentinel(
    signal="quiet", warn=0.5, failing=0.25, ticks=2, after_share=0.5, reason="only {value:.0%}", remedy="wait"
)


def watch(*sentinels: Sentinel) -> SentinelStates:
    return SentinelStates(sentinels or (LOUD, QUIET), total_images=1000, step_images=4)


def feed(watched: SentinelStates, signal: str, values: list[float], start: int = 10) -> list[tuple[int, Health]]:
    """(images, health) of every change."""
    changes = []
    for index, value in enumerate(values):
        images = start + 10 * index
        changes += [(images, alert.health) for alert in watched.observe(images, {signal: value})]
    return changes


def test_one_outlier_changes_nothing_three_in_a_row_do() -> None:
    watched = watch()
    assert feed(watched, "loud", [1, 50, 1, 50, 50, 1]) == []
    assert watched.health is Health.ok
    assert feed(watched, "loud", [50, 50, 50], start=100) == [(120, Health.warn)]
    assert watched.health is Health.warn
    assert watched.onset_images == 60, "the last observation before the three"


def test_the_mildest_of_the_observations_decides() -> None:
    assert feed(watch(), "loud", [500, 20, 500]) == [(30, Health.warn)]
    assert feed(watch(), "loud", [500, 500, 500]) == [(30, Health.failing)]
    watched = watch()
    assert feed(watched, "loud", [20, 20, 20, 500, 500, 500]) == [(30, Health.warn), (60, Health.failing)]
    assert watched.onset_images == 30, "failing began after the warning; a slow decline must not cost all of the run"


def test_health_returns_after_as_many_good_observations() -> None:
    watched = watch()
    changes = feed(watched, "loud", [500] * 3 + [1, 1, 500, 1, 20, 1, 1, 1, 1])
    assert changes == [(30, Health.failing), (90, Health.warn), (120, Health.ok)]
    assert watched.health is Health.ok
    assert watched.onset_images is None


def test_the_beginning_is_not_judged() -> None:
    watched = watch()
    assert feed(watched, "quiet", [0.9, 0.0] * 24) == []  # 10 ... 480 images, of 1000 the first half
    assert feed(watched, "quiet", [0.0] * 4, start=490) == [(510, Health.failing)]
    assert watched.onset_images == 470, "the last one in order"
    never = watch()
    feed(never, "quiet", [0.0] * 60)
    assert never.onset_images == 0, "a collapse from the start has no sound checkpoint but the first"
    by_steps = watch(dataclasses.replace(QUIET, after_steps=150))
    assert feed(by_steps, "quiet", [0.0] * 12, start=500) == [(610, Health.failing)], "150 steps of 4 images"


def test_the_worst_sentinel_speaks_for_the_run_and_says_why() -> None:
    watched = watch()
    feed(watched, "loud", [50, 50, 50])
    (alert,) = [v for i in (1, 2) for v in watched.observe(600 + i, {"quiet": 0.1})]
    assert watched.health is Health.failing
    assert str(alert) == "health: failing since 0 images: only 10%. Usual remedy: wait"
    (healed,) = [v for i in (1, 2) for v in watched.observe(700 + i, {"quiet": 0.9})]
    assert str(healed) == "health: quiet is ok again (0.9)"
    assert watched.health is Health.warn


def test_a_checkpoint_in_the_middle_of_a_row_changes_nothing() -> None:
    straight, before, after = watch(), watch(), watch()
    values = [1.0, 50, 50, 50, 500, 500, 500, 1, 1, 1]
    expected = feed(straight, "loud", values)
    for cut in range(len(values)):
        first = feed(before := watch(), "loud", values[:cut])
        after = watch()
        after.load_state(json.loads(json.dumps(before.state())) | {"a former sentinel": {"armed": True}})
        assert first + feed(after, "loud", values[cut:], start=10 + 10 * cut) == expected, cut


def test_nan_is_bad_news_on_either_side() -> None:
    assert feed(watch(), "loud", [float("nan")] * 3) == [(30, Health.failing)]
    assert feed(watch(), "quiet", [float("nan")] * 2, start=600) == [(610, Health.failing)]


def test_the_table_is_complete_and_a_sentinel_that_cannot_decide_is_refused() -> None:
    assert len({sentinel.signal for sentinel in SENTINELS}) == len(SENTINELS)
    for sentinel in SENTINELS:
        assert "{value" in sentinel.reason, sentinel.signal
        assert sentinel.reason.format(value=0.5)
    with pytest.raises(FrameworkError, match="thresholds must differ"):
        Sentinel(signal="x", warn=1, failing=1, reason="", remedy="")
