"""Which rank is named, when, and how often; and that the fixed piece of work keeps to its share of the time."""

from __future__ import annotations

import dataclasses
import math
import time

import pytest
import torch

from framework.runtime.straggling import ENOUGH, SHARE, RankTiming, StepTimer, Stragglers

HOSTS = ("a", "a", "b", "b")


def timing(*, wait: float = 0.01, work: float = 0.001, error: float = 0.00001, trip: float = 0.0002) -> RankTiming:
    return RankTiming(
        wait_share=wait, work_count=ENOUGH, work_seconds=work, work_error_seconds=error, trip_seconds=trip
    )


def test_laps_travel_as_numbers() -> None:
    assert RankTiming.from_row(timing(wait=0.25).row()) == timing(wait=0.25)


def test_a_slow_rank_is_named_at_the_second_report_and_again_only_after_it_recovered() -> None:
    stragglers, slow = Stragglers(HOSTS), [timing(), timing(), timing(work=0.0031), timing()]
    assert stragglers.observe(slow)[1] == []
    (sentence,) = stragglers.observe(slow)[1]
    assert "rank 2 (b) computes 3.1x slower than the median of the others" in sentence
    assert "throttling" in sentence, "with a remedy"
    assert stragglers.observe(slow)[1] == []
    assert stragglers.observe([timing()] * 4)[1] == []
    assert [len(stragglers.observe(slow)[1]) for _ in range(3)] == [0, 1, 0]


def test_a_difference_within_the_noise_is_not_named() -> None:
    stragglers = Stragglers(HOSTS)
    noisy = [timing(error=0.0003), timing(), timing(work=0.0019, error=0.0004), timing(work=0.0012)]
    assert [stragglers.observe(noisy)[1] for _ in range(4)] == [[]] * 4


def test_too_few_timings_are_no_judgement_and_do_not_interrupt_one() -> None:
    stragglers, slow = Stragglers(HOSTS), [timing(), timing(), timing(work=0.003), timing()]
    few = [dataclasses.replace(timing(), work_count=ENOUGH - 1), *slow[1:]]
    assert stragglers.observe(slow)[1] == []
    metrics, sentences = stragglers.observe(few)
    assert sentences == []
    assert "perf/compute_slowdown" not in metrics
    assert len(stragglers.observe(slow)[1]) == 1


def test_two_ranks_are_compared_with_each_other() -> None:
    stragglers = Stragglers(HOSTS[:2])
    timings = [timing(work=0.002), timing()]
    stragglers.observe(timings)
    metrics, (sentence,) = stragglers.observe(timings)
    assert "rank 0 (a) computes 2.0x slower" in sentence
    assert metrics["perf/compute_slowdown"] == pytest.approx(2.0)
    assert metrics["perf/compute_slowdown_rank"] == 0.0


def test_a_rank_that_waits_for_data_and_one_that_is_far_away_are_named() -> None:
    stragglers = Stragglers(HOSTS)
    timings = [timing(), timing(), timing(trip=0.04), timing(wait=0.34)]
    stragglers.observe(timings)
    metrics, sentences = stragglers.observe(timings)
    assert [sentence.split(":")[1] for sentence in sentences] == [
        " rank 3 (b) waits for data 34 % of the time (the others",
        " rank 2 (b) is far away",
    ]
    assert "40.0 ms, for the others 0.2 ms" in sentences[1]
    assert (metrics["perf/data_wait_share"], metrics["perf/data_wait_share_rank"]) == (0.34, 3.0)
    assert (metrics["perf/trip_ms"], metrics["perf/trip_ms_rank"]) == (40.0, 2.0)


def test_one_process_and_missing_measurements_give_no_ranks_and_no_warning() -> None:
    alone = Stragglers(("a",))
    nothing = timing(work=math.nan, error=math.nan, trip=math.nan)
    assert [alone.observe([nothing]) for _ in range(3)] == [({"perf/data_wait_share": 0.01}, [])] * 3
    both = Stragglers(HOSTS[:2])
    assert [both.observe([nothing, timing(trip=0.5)])[1] for _ in range(3)] == [[]] * 3


def test_the_fixed_work_keeps_to_its_share_of_the_time() -> None:
    timer = StepTimer(torch.device("cpu"))
    begun, spent, steps = time.monotonic(), 0.0, 0
    while time.monotonic() - begun < 1.0:
        before = time.perf_counter()
        timer.probe()
        spent += time.perf_counter() - before
        time.sleep(0.005)
        steps += 1
    count, shortest = timer.measured()[0], timer._shortest_seconds
    _, mean, error = timer.measured()
    print(f"{count} times {1e3 * mean:.3f} +- {1e3 * error:.3f} ms in 1 s: {100 * spent:.2f} % of it")
    assert count >= 2
    assert (count - 1) * shortest <= SHARE * (time.monotonic() - begun)
    timer.reset()
    assert timer.measured()[0] == 0
