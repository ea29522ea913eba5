"""Shows on standard error how far a long task is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from framework.utils.quantities import format_duration

LINE_EVERY_SECONDS = 10.0
"""Seconds from one line to the next where there is no terminal; shorter work prints no line."""

Advance = Callable[[int], None]
"""A function to call with the number of images (or other units) done since its last call."""


@contextmanager
def show_progress(title: str, *, total: int, enabled: bool, done: int = 0, unit: str = "images") -> Iterator[Advance]:
    """Yield a function to call with the number of images that have been done since the last call.

    Args:
        title: name of the work.
        total: number of images in all; more than these are not counted.
        enabled: True to show anything.
        done: number of images finished by an earlier run.
        unit: name of what is counted.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    if not enabled:
        yield lambda count: None
        return
    if not console.is_terminal:
        yield _lines(console, title, total=total, done=done, unit=unit)
        return
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, rate="")
        begun, now = time.monotonic(), done

        def advance(count: int) -> None:
            nonlocal now
            now = min(total, now + count)
            bar.update(task, completed=now, rate=f"{_rate(now - done, begun):,.0f} {unit}/s")

        yield advance


def _rate(count: int, begun: float) -> float:
    return count / max(time.monotonic() - begun, 1e-3)


def _lines(console: Console, title: str, *, total: int, done: int, unit: str) -> Advance:
    begun = shown = time.monotonic()
    now, any_shown = done, False

    def advance(count: int) -> None:
        nonlocal now, shown, any_shown
        now = min(total, now + count)
        is_last = now == total and any_shown
        if is_last or time.monotonic() - shown >= LINE_EVERY_SECONDS:
            shown, any_shown = time.monotonic(), not is_last
            rate = _rate(now - done, begun)
            left = format_duration((total - now) / max(rate, 1e-9))
            console.print(f"{title}: {now:,} of {total:,} {unit}, {rate:,.1f} {unit}/s, ETA {left}", soft_wrap=True)

    return advance
