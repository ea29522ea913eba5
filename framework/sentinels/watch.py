"""Observing signals over time: a state per sentinel that changes only when several observations in a row agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from framework.sentinels.table import Health, Sentinel


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a sentinel thinks of its signal."""

    sentinel: Sentinel
    health: Health
    was: Health
    value: float
    images: int
    onset_images: int
    """The last observation before it came to this; a checkpoint no later than this was better. Healed: `images`."""

    @property
    def reason(self) -> str:
        """In words, with the number."""
        if self.health is Health.ok:
            return f"within its bounds ({self.value:.3g})"
        return self.sentinel.reason.format(value=self.value)

    @property
    def remedy(self) -> str:
        """What usually helps; nothing where all is well."""
        return "" if self.health is Health.ok else self.sentinel.remedy

    def __str__(self) -> str:
        if self.health < self.was:
            return f"health: {self.sentinel.signal} is {self.health.name} again ({self.value:.3g})"
        return (
            f"health: {self.health.name} since {self.onset_images:,} images: {self.reason}. Usual remedy: {self.remedy}"
        )


@dataclass
class _Memory:
    """What is known of one signal. Plain numbers, because they go into checkpoints."""

    health: int = 0
    run_level: int = 0
    """Level of the observations in a row that differ from `health`; its mildest when it becomes worse."""
    run_length: int = 0
    run_onset: int = 0
    last_images: int = 0
    onset: int = 0


class Watch:
    """Every sentinel's state.

    Args:
        sentinels: the table.
        total_images: length of the run.
        step_images: images of a step.
    """

    def __init__(self, sentinels: Iterable[Sentinel], *, total_images: int, step_images: int) -> None:
        self._sentinels, self._total_images, self._step_images = tuple(sentinels), total_images, step_images
        self._memory = {sentinel.signal: _Memory() for sentinel in self._sentinels}

    @property
    def health(self) -> Health:
        """The worst sentinel's state."""
        return Health(max((memory.health for memory in self._memory.values()), default=0))

    @property
    def onset_images(self) -> int | None:
        """Where the first trouble that still lasts began, images; None while all is well."""
        return min((memory.onset for memory in self._memory.values() if memory.health), default=None)

    def observe(self, images: int, values: Mapping[str, float]) -> list[Verdict]:
        """Take new values of some signals; returns the verdicts that changed."""
        changed = []
        for sentinel in self._sentinels:
            if sentinel.signal in values:
                verdict = self._judge(sentinel, values[sentinel.signal], images)
                if verdict:
                    changed.append(verdict)
        return changed

    def standing(self, images: int, values: Mapping[str, float]) -> list[Verdict]:
        """The present verdicts on these values, changed or not; call `observe` with them first."""
        found = []
        for sentinel in self._sentinels:
            if sentinel.signal in values:
                memory, value = self._memory[sentinel.signal], values[sentinel.signal]
                found.append(_verdict(sentinel, memory, was=Health(memory.health), value=value, images=images))
        return found

    def _judge(self, sentinel: Sentinel, value: float, images: int) -> Verdict | None:
        memory = self._memory[sentinel.signal]
        level, before = sentinel.level(value), memory.last_images
        memory.last_images = images
        if images < max(sentinel.after_steps * self._step_images, sentinel.after_share * self._total_images):
            if level is not Health.ok:
                memory.last_images = before  # not judged yet, but nothing to go back to either
            return None
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
        if memory.run_length < sentinel.ticks:
            return None
        was, memory.health, memory.run_length = Health(memory.health), memory.run_level, 0
        if worse:
            memory.onset = memory.run_onset
        return _verdict(sentinel, memory, was=was, value=value, images=images)

    def state(self) -> dict[str, Any]:
        """For checkpoints, as JSON."""
        return {signal: dict(vars(memory)) for signal, memory in self._memory.items()}

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what `state` returned, also in another version: what it does not know begins anew."""
        for signal, values in state.items():
            if signal in self._memory:
                known = vars(_Memory())
                self._memory[signal] = _Memory(**{name: value for name, value in values.items() if name in known})


def _verdict(sentinel: Sentinel, memory: _Memory, *, was: Health, value: float, images: int) -> Verdict:
    return Verdict(
        sentinel=sentinel,
        health=Health(memory.health),
        was=was,
        value=value,
        images=images,
        onset_images=memory.onset if memory.health else images,
    )
