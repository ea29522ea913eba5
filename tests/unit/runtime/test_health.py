from __future__ import annotations

import os
import signal

import pytest

from framework.runtime.health import FiniteGuard, TrainingDiverged
from framework.runtime.signals import StopVote


def test_skipped_steps_are_counted_and_a_long_row_stops_training() -> None:
    guard = FiniteGuard(most_in_a_row=3)
    for finite in (False, False, True, False, False):
        guard.observe(finite=finite, images_seen=64)
    assert guard.skipped_steps == 4
    with pytest.raises(TrainingDiverged, match=r"3 steps in a row .*at 640 images"):
        guard.observe(finite=False, images_seen=640)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_stops_after_the_step(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopVote(world=1).listening() as stop:
        assert not stop.poll()
        os.kill(os.getpid(), number)
        assert stop.poll()
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait() -> None:
    with StopVote(world=1).listening() as stop, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        stop.poll()
        os.kill(os.getpid(), signal.SIGINT)
        stop.poll()
