"""Which rank is named, when, and how often; and that the fixed piece of work keeps to its share of the time."""

from __future__ import annotations

import dataclasses
import math
import time

import pytest
import torch

from framework.runtime.straggling import ENOUGH, SHARE, Lap, Pace, Stragglers

HOSTS = ("a", "a", "b", "b")


def lap(*, wait: float = 0.01, work: float = 0.001, error: float = 0.00001, trip: float = 0.0002) -> Lap:
    return Lap(wait_share=wait, work_count=ENOUGH, work_seconds=work, work_error_seconds=error, trip_seconds=trip)


def test_laps_travel_as_numbers() -> None:
    assert Lap.from_row(lap(wait=0.25).row()) == lap(wait=0.25)


def test_a_slow_rank_is_named_at_the_second_report_and_again_only_after_it_recovered() -> None:
    stragglers, slow = Stragglers(HOSTS), [lap(), lap(), lap(work=0.0031), lap()]
    assert stragglers.observe(slow)[1] == []
    (sentence,) = stragglers.observe(slow)[1]
    assert "rank 2 (b) computes 3.1x slower than the median of the others" in sentence
    assert "throttling" in sentence, "with a remedy"
    assert stragglers.observe(slow)[1] == []
    assert stragglers.observe([lap()] * 4)[1] == []
    assert [len(stragglers.observe(slow)[1]) for _ in range(3)] == [0, 1, 0]


def test_a_difference_within_the_noise_is_not_named() -> None:
    stragglers = Stragglers(HOSTS)
    noisy = [lap(error=0.0003), lap(), lap(work=0.0019, error=0.0004), lap(work=0.0012)]
    assert [stragglers.observe(noisy)[1] for _ in range(4)] == [[]] * 4


def test_too_few_timings_are_no_judgement_and_do_not_interrupt_one() -> None:
    stragglers, slow = Stragglers(HOSTS), [lap(), lap(), lap(work=0.003), lap()]
    few = [dataclasses.replace(lap(), work_count=ENOUGH - 1), *slow[1:]]
    assert stragglers.observe(slow)[1] == []
    metrics, sentences = stragglers.observe(few)
    assert sentences == []
    assert "perf/compute_slowdown" not in metrics
    assert len(stragglers.observe(slow)[1]) == 1


def test_two_ranks_are_compared_with_each_other() -> None:
    stragglers = Stragglers(HOSTS[:2])
    laps = [lap(work=0.002), lap()]
    stragglers.observe(laps)
    metrics, (sentence,) = stragglers.observe(laps)
    assert "rank 0 (a) computes 2.0x slower" in sentence
    assert metrics["perf/compute_slowdown"] == pytest.approx(2.0)
    assert metrics["perf/compute_slowdown_rank"] == 0.0


def test_a_rank_that_waits_for_data_and_one_that_is_far_away_are_named() -> None:
    stragglers = Stragglers(HOSTS)
    laps = [lap(), lap(), lap(trip=0.04), lap(wait=0.34)]
    stragglers.observe(laps)
    metrics, sentences = stragglers.observe(laps)
    assert [sentence.split(":")[1] for sentence in sentences] == [
        " rank 3 (b) waits for data 34 % of the time (the others",
        " rank 2 (b) is far away",
    ]
    assert "40.0 ms, for the others 0.2 ms" in sentences[1]
    assert (metrics["perf/data_wait_share"], metrics["perf/data_wait_share_rank"]) == (0.34, 3.0)
    assert (metrics["perf/trip_ms"], metrics["perf/trip_ms_rank"]) == (40.0, 2.0)


def test_one_process_and_missing_measurements_give_no_ranks_and_no_warning() -> None:
    alone = Stragglers(("a",))
    nothing = lap(work=math.nan, error=math.nan, trip=math.nan)
    assert [alone.observe([nothing]) for _ in range(3)] == [({"perf/data_wait_share": 0.01}, [])] * 3
    both = Stragglers(HOSTS[:2])
    assert [both.observe([nothing, lap(trip=0.5)])[1] for _ in range(3)] == [[]] * 3


def test_the_fixed_work_keeps_to_its_share_of_the_time() -> None:
    pace = Pace(torch.device("cpu"))
    begun, spent, steps = time.monotonic(), 0.0, 0
    while time.monotonic() - begun < 1.0:
        before = time.perf_counter()
        pace.probe()
        spent += time.perf_counter() - before
        time.sleep(0.005)
        steps += 1
    count, shortest = pace.measured()[0], pace._shortest_seconds
    _, mean, error = pace.measured()
    print(f"{count} times {1e3 * mean:.3f} +- {1e3 * error:.3f} ms in 1 s: {100 * spent:.2f} % of it")
    assert count >= 2
    assert (count - 1) * shortest <= SHARE * (time.monotonic() - begun)
    pace.reset()
    assert pace.measured()[0] == 0
