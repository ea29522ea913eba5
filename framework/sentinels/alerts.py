"""Observes signals over time: a sentinel's state changes only when several observations in a row agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from framework.sentinels.table import Health, Sentinel


@dataclass(frozen=True, kw_only=True)
class Alert:
    """The judgement of a sentinel on its signal.

    Attributes:
        health: the present health of the signal.
        was: its health before.
        value: the value observed.
        images_seen: the clock.
    """

    sentinel: Sentinel
    health: Health
    was: Health
    value: float
    images_seen: int
    onset_images: int
    """The clock at the last observation before the trouble: checkpoints up to it were better. `images` when healed."""

    @property
    def reason(self) -> str:
        """Sentence that says what the value means."""
        if self.health is Health.ok:
            return f"within its bounds ({self.value:.3g})"
        return self.sentinel.reason.format(value=self.value)

    @property
    def remedy(self) -> str:
        """Advice that usually helps; empty where all is well."""
        return "" if self.health is Health.ok else self.sentinel.remedy

    def __str__(self) -> str:
        if self.health < self.was:
            return f"health: {self.sentinel.signal} is {self.health.name} again ({self.value:.3g})"
        return (
            f"health: {self.health.name} since {self.onset_images:,} images: {self.reason}. Usual remedy: {self.remedy}"
        )


@dataclass
class _Memory:
    """The memory of one signal, in plain numbers, because they go into checkpoints."""

    health: int = 0
    run_level: int = 0
    """Level of the observations in a row that differ from `health`: of all of them, the one nearest to `health`."""
    run_length: int = 0
    run_onset: int = 0
    last_images: int = 0
    onset: int = 0


class SentinelStates:
    """The states of all sentinels.

    Args:
        sentinels: the table of sentinels.
        total_images: length of the run in images.
        step_images: number of images a step.
    """

    def __init__(self, sentinels: Iterable[Sentinel], *, total_images: int, step_images: int) -> None:
        self._sentinels, self._total_images, self._step_images = tuple(sentinels), total_images, step_images
        self._memory = {sentinel.signal: _Memory() for sentinel in self._sentinels}

    @property
    def health(self) -> Health:
        """Health of the worst signal."""
        return Health(max((memory.health for memory in self._memory.values()), default=0))

    @property
    def onset_images(self) -> int | None:
        """The clock, in images, at which the earliest trouble that still lasts began; None while all is well."""
        return min((memory.onset for memory in self._memory.values() if memory.health), default=None)

    def observe(self, images_seen: int, values: Mapping[str, float]) -> list[Alert]:
        """Take new values of some signals in, and return the alerts that changed."""
        changed = []
        for sentinel in self._sentinels:
            if sentinel.signal in values:
                alert = self._judge(sentinel, values[sentinel.signal], images_seen)
                if alert:
                    changed.append(alert)
        return changed

    def standing(self, images_seen: int, values: Mapping[str, float]) -> list[Alert]:
        """Return the present alerts on these values, changed or not; call `observe` with them first."""
        found = []
        for sentinel in self._sentinels:
            if sentinel.signal in values:
                memory, value = self._memory[sentinel.signal], values[sentinel.signal]
                found.append(_alert(sentinel, memory, was=Health(memory.health), value=value, images_seen=images_seen))
        return found

    def _judge(self, sentinel: Sentinel, value: float, images_seen: int) -> Alert | None:
        """Take one value in, and return a alert if it changes the signal's health."""
        # Young generators look ill: their values are not judged yet.
        memory = self._memory[sentinel.signal]
        level, before = sentinel.level(value), memory.last_images
        memory.last_images = images_seen
        if images_seen < max(sentinel.after_steps * self._step_images, sentinel.after_share * self._total_images):
            if level is not Health.ok:
                memory.last_images = before  # not judged yet, but nothing to go back to either
            return None

        # A single observation back at the present health ends the row.
        if level == memory.health:
            memory.run_length = 0
            return None
        worse = level > memory.health
        if memory.run_length and worse == (memory.run_level > memory.health):
            # The observations agree on the direction; what they agree on is the one closest to the present state.
            memory.run_level = min(memory.run_level, level) if worse else max(memory.run_level, level)
            memory.run_length += 1
        else:
            memory.run_level, memory.run_length, memory.run_onset = level, 1, before

        # A long enough row changes the health.
        if memory.run_length < sentinel.ticks:
            return None
        was, memory.health, memory.run_length = Health(memory.health), memory.run_level, 0
        if worse:
            memory.onset = memory.run_onset
        return _alert(sentinel, memory, was=was, value=value, images_seen=images_seen)

    def state(self) -> dict[str, Any]:
        """Return the states as JSON, for checkpoints."""
        return {signal: dict(vars(memory)) for signal, memory in self._memory.items()}

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what `state` returned, perhaps in another version: signals and fields that it lacks begin anew."""
        for signal, values in state.items():
            if signal in self._memory:
                known = vars(_Memory())
                self._memory[signal] = _Memory(**{name: value for name, value in values.items() if name in known})


def _alert(sentinel: Sentinel, memory: _Memory, *, was: Health, value: float, images_seen: int) -> Alert:
    return Alert(
        sentinel=sentinel,
        health=Health(memory.health),
        was=was,
        value=value,
        images_seen=images_seen,
        onset_images=memory.onset if memory.health else images_seen,
    )
